use super::*;
use std::io::Write;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shardwright.toml");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    (dir, path)
}

fn of(text: &str) -> Result<Loaded, ConfigErrors> {
    let (_dir, path) = file(text);
    load(&ConfigSources { file: Some(path), ..ConfigSources::default() })
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn without_any_source_production_holds() {
    let loaded = load(&ConfigSources::default()).expect("defaults");
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.sources.values().all(|source| *source == Source::Default));
}

#[test]
fn later_sources_win_and_say_so() {
    let (_dir, path) = file(
        "environment = \"development\"\nsilent_node_seconds = 7\nmax_queue_depth = 10\nquery_p99_budget_ms = 0x20\n",
    );
    let loaded = load(&ConfigSources {
        file: Some(path),
        variables: map(&[
            ("SHARDWRIGHT_MAX_QUEUE_DEPTH", "20"),
            ("SHARDWRIGHT_URL", "http://127.0.0.1:1"),
            ("HOME", "/"),
        ]),
        flags: map(&[("max_queue_depth", "30")]),
    })
    .expect("valid");
    assert_eq!(loaded.environment, Environment::Development);
    assert_eq!(loaded.settings.max_queue_depth, 30);
    assert_eq!(loaded.settings.silent_node_seconds, 7);
    assert_eq!(loaded.settings.query_p99_budget_ms, Some(32));
    assert_eq!(loaded.settings.node_loss_grace_seconds, 3);
    let shown = loaded.show();
    let source = |key: &str| shown.settings[key].source;
    assert_eq!(source("max_queue_depth"), Source::Flag);
    assert_eq!(source("silent_node_seconds"), Source::File);
    assert_eq!(source("node_loss_grace_seconds"), Source::Profile);
    assert_eq!(source("audit_retention_days"), Source::Default);
}

#[test]
fn a_flag_chooses_the_profile_over_the_file() {
    let (_dir, path) = file("environment = \"development\"\n");
    let flags = map(&[("environment", "staging")]);
    let loaded = load(&ConfigSources { file: Some(path), flags, ..ConfigSources::default() }).expect("valid");
    assert_eq!(loaded.settings, Settings::staging());
    assert_eq!(of("environment = \"moon\"").expect("valid").environment, Environment::Production);
}

#[test]
fn what_is_refused_names_file_line_and_range() {
    let error = of("\n\nsilent_node_seconds = 0\n").expect_err("out of range").to_string();
    assert!(error.contains("shardwright.toml:3: silent_node_seconds = 0"), "{error}");
    assert!(error.contains("a whole number from 1 to 3600"), "{error}");
    let error = of("# note\nsilent_node_second = 5\n").expect_err("unknown").to_string();
    assert!(error.contains("shardwright.toml:2: 'silent_node_second' is no setting"), "{error}");
    assert!(error.contains("did you mean 'silent_node_seconds'"), "{error}");
    for (text, part) in [
        ("silent_node_seconds = -1", "silent_node_seconds = -1"),
        ("silent_node_seconds = 1.5", "silent_node_seconds = 1.5"),
        ("auto_recovery_enabled = \"yes\"", "true or false"),
        ("query_p99_budget_ms = \"none\"", "\"off\" or"),
        ("[shards]\na = 1", "'shards' is no setting"),
        ("environment = 3", "must be a text"),
        ("a = = 1", ":1: "),
    ] {
        let error = of(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn unknown_variables_and_flags_are_refused_too() {
    let variables = map(&[("SHARDWRIGHT_MAX_QUEUE_DEPHT", "1")]);
    let error = load(&ConfigSources { variables, ..ConfigSources::default() }).expect_err("unknown");
    assert!(error.to_string().contains("variable SHARDWRIGHT_MAX_QUEUE_DEPHT"), "{error}");
    let flags = map(&[("x", "1")]);
    assert!(load(&ConfigSources { flags, ..ConfigSources::default() }).is_err());
}

#[test]
fn only_a_chosen_queue_interval_overrides_the_number_of_nodes() {
    assert!(!of("").expect("valid").settings.queue_interval_is_chosen);
    assert!(of("queue_processing_interval_seconds = 2").expect("valid").settings.queue_interval_is_chosen);
}

#[test]
fn every_mistake_is_named_at_once_with_its_line() {
    let (_dir, path) =
        file("foo = 1\nsilent_node_seconds = 0\nmax_queue_depth = = 3\nenvironment = 7\nbar = 2\n");
    let error = load(&ConfigSources {
        file: Some(path),
        variables: map(&[("SHARDWRIGHT_MAX_QUEUE_DEPHT", "1")]),
        flags: map(&[("node_poll_interval_ms", "1")]),
    })
    .expect_err("six mistakes");
    let all = error.to_string();
    for part in [
        "toml:1: 'foo'",
        "toml:2: silent_node_seconds = 0",
        "toml:3: ",
        "toml:4: environment must be",
        "toml:5: 'bar'",
        "variable SHARDWRIGHT_MAX_QUEUE_DEPHT",
        "flag node_poll_interval_ms",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert_eq!(error.0.len(), 7, "{all}");
}

#[test]
fn a_new_reading_leaves_what_only_a_start_takes_up() {
    let held = of("leader_timeout_seconds = 8\nsilent_node_seconds = 7").expect("valid");
    let read =
        of("leader_timeout_seconds = 9\nsilent_node_seconds = 6\nqueue_processing_interval_seconds = 4");
    let (now, kept) = held.reloaded(read.expect("valid"));
    assert_eq!(kept, ["leader_timeout_seconds"]);
    assert_eq!((now.settings.leader_timeout_seconds, now.settings.silent_node_seconds), (8, 6));
    assert_eq!(now.settings.queue_processing_interval_seconds, 4);
    assert!(now.settings.queue_interval_is_chosen);
    let (back, kept) = now.reloaded(of("").expect("valid"));
    assert_eq!((kept.len(), back.settings.silent_node_seconds), (1, 5));
    assert!(!back.settings.queue_interval_is_chosen);
}

proptest::proptest! {
    /// Whatever stands in the file: every mistake has its line, and nothing falls over.
    #[test]
    fn hostile_files_are_read_or_refused_with_a_place(
        lines in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::strategy::Strategy::prop_map("[a-z_]{1,20} ?= ?.{0,20}", |line| line),
                proptest::strategy::Strategy::prop_map(
                    (proptest::sample::select(vec!["silent_node_seconds", "auto_recovery_enabled", "environment"]), ".{0,30}"),
                    |(key, value)| format!("{key} = {value}"),
                ),
                ".{0,60}",
            ],
            0..12,
        )
    ) {
        let text = lines.join("\n");
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.toml");
        std::fs::write(&path, &text).expect("written");
        let sources = ConfigSources { file: Some(path), ..ConfigSources::default() };
        match load(&sources) {
            Ok(loaded) => {
                // What is taken is in range: it can be shown and set again.
                for key in KEYS {
                    let shown = match key.show(&loaded.settings) {
                        Value::String(text) => Written::Text(text),
                        other => Written::from_text(&other.to_string()),
                    };
                    proptest::prop_assert!(key.set(&mut loaded.settings.clone(), &shown).is_ok(), "{}", key.name);
                }
            }
            Err(errors) => {
                proptest::prop_assert!(!errors.0.is_empty());
                for error in errors.0 {
                    let said = error.to_string();
                    proptest::prop_assert!(said.contains("x.toml:"), "{}", said);
                }
            }
        }
    }
}
