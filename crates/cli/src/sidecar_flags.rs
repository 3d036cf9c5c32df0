//! The flags of `sidecar`: searchd adds its own to those configured, and newer versions add more than are known here.

use crate::args::Cli;
use clap::CommandFactory;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The command line without the flags of `sidecar` that this program does not know; others stay as they are, for a
/// mistake in them is a person's.
pub fn without_unknown(arguments: Vec<OsString>) -> Vec<OsString> {
    let is_sidecar = arguments.iter().skip(1).find(|one| !is_flag(one)).is_some_and(|one| one == "sidecar");
    if !is_sidecar {
        return arguments;
    }
    let known = known_flags();
    let mut kept = Vec::with_capacity(arguments.len());
    let mut rest = arguments.into_iter();
    kept.extend(rest.next());
    let mut wants_value = false;
    for argument in rest {
        let text = argument.to_string_lossy().into_owned();
        let Some(flag) = text.strip_prefix("--") else {
            // What follows an unknown flag is its value; there are no other words but the command's own.
            if wants_value || text == "sidecar" || text.starts_with("-h") || text.starts_with("-V") {
                kept.push(argument);
            }
            wants_value = false;
            continue;
        };
        let (name, has_value) = flag.split_once('=').map_or((flag, false), |(name, _)| (name, true));
        wants_value = false;
        if let Some(takes_value) = known.get(name) {
            wants_value = *takes_value && !has_value;
            kept.push(argument);
        }
    }
    kept
}

/// What the sidecar was given after its own name, for the sidecar behind it.
pub fn all() -> Vec<String> {
    let arguments = std::env::args_os().skip(1).skip_while(|one| one != "sidecar").skip(1);
    let own = known_flags();
    // searchd's own flags are those this program has no use for, and the four that the protocol names.
    let protocol = ["listen", "bind", "disable-telemetry", "threads", "log-level"];
    let mut flags = Vec::new();
    let mut dropping = false;
    for argument in arguments {
        let text = argument.to_string_lossy().into_owned();
        match text.strip_prefix("--") {
            Some(flag) => {
                let name = flag.split_once('=').map_or(flag, |(name, _)| name);
                let ours = own.contains_key(name) && !protocol.contains(&name);
                dropping = ours && !flag.contains('=');
                if !ours {
                    flags.push(text);
                }
            }
            None if dropping => dropping = false,
            None => flags.push(text),
        }
    }
    flags
}

fn is_flag(argument: &OsStr) -> bool {
    argument.to_string_lossy().starts_with('-')
}

/// Flags of `sidecar`, with whether each takes a value.
fn known_flags() -> BTreeMap<String, bool> {
    let command = Cli::command();
    let sidecar = command.get_subcommands().find(|one| one.get_name() == "sidecar");
    let arguments = command.get_arguments().chain(sidecar.into_iter().flat_map(clap::Command::get_arguments));
    let takes_value = |argument: &clap::Arg| argument.get_action().takes_values();
    let mut flags: BTreeMap<String, bool> = arguments
        .filter_map(|argument| Some((argument.get_long()?.to_owned(), takes_value(argument))))
        .collect();
    flags.extend([("help".to_owned(), false), ("version".to_owned(), false)]);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(line: &str) -> String {
        let arguments = line.split_whitespace().map(OsString::from).collect();
        let kept = without_unknown(arguments);
        kept.iter().map(|one| one.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn unknown_flags_of_searchd_are_passed_over_with_their_values() {
        assert_eq!(
            kept(
                "shardwright --die-with-parent=7 sidecar --dir d --new --listen=http://h:1 --other x --threads=4 --disable-telemetry"
            ),
            "shardwright --die-with-parent=7 sidecar --dir d --listen=http://h:1 --threads=4"
        );
    }

    #[test]
    fn other_commands_keep_their_mistakes() {
        assert_eq!(kept("shardwright serve --dri d"), "shardwright serve --dri d");
        assert_eq!(kept("shardwright node --sidecar sidecar --x"), "shardwright node --sidecar sidecar --x");
    }
}
