//! `token create|list|revoke`.

use super::ask::api;
use super::watch::time;
use crate::args::{Common, TokenCommand};
use crate::output::{self, CommandError, TextTable};
use model::api::{TokenBody, TokenList};
use serde_json::json;

pub async fn run(common: &Common, command: TokenCommand) -> Result<(), CommandError> {
    let api = api(common)?;
    match command {
        TokenCommand::Create { name, role, days } => {
            let made = api.create_token(&TokenBody { name, role, days }).await?;
            // The token alone: it goes into a file.
            output::print(common.output, &made, |made| made.token.clone())
        }
        TokenCommand::List => output::print(common.output, &api.tokens().await?, text),
        TokenCommand::Revoke { name } => {
            api.revoke_token(&name).await?;
            output::print(common.output, &json!({ "revoked": name }), |_| {
                format!("token {name} opens nothing any more")
            })
        }
    }
}

fn text(list: &TokenList) -> String {
    if list.tokens.is_empty() {
        return "no token but the one in the controller's directory".to_owned();
    }
    let mut table = TextTable::new(["name", "role", "created", "expires"]);
    for token in &list.tokens {
        let expires = token.expires.map_or_else(|| "-".to_owned(), time);
        let expires = if token.expired { format!("{expires} (over)") } else { expires };
        table.row([token.name.clone(), token.role.to_string(), time(token.created), expires]);
    }
    table.to_string()
}
