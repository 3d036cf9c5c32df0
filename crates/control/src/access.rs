//! Tokens: added and revoked by order, kept in the log as their hashes, so that all controllers of a log know the same.

use crate::io::{Effect, RequestId};
use crate::{Controller, Record};
use model::TokenOrder;
use model::access::{NO_TOKEN_NAMES, TOKEN_NAME_MAX, is_token_name};
use model::wire::StatementReply;

/// Tokens that are kept: each is in the state of every controller.
pub const TOKENS_MAX: usize = 1_000;

impl Controller {
    pub(crate) fn token_order(&mut self, request: RequestId, order: TokenOrder) {
        let reply = match self.change_tokens(order) {
            Ok(()) => StatementReply::Ok,
            Err(message) => StatementReply::Error { message },
        };
        self.out.effects.push(Effect::Answer { request, reply });
    }

    fn change_tokens(&mut self, order: TokenOrder) -> Result<(), String> {
        match order {
            TokenOrder::Add(token) => {
                if !is_token_name(&token.name) {
                    return Err(format!(
                        "a token's name has 1 to {TOKEN_NAME_MAX} letters, digits, '_', '-' or '.', not dots alone, and is none of {}",
                        NO_TOKEN_NAMES.join(", ")
                    ));
                }
                let name = &token.name;
                let known = self.state.tokens.get(name);
                if known.is_some_and(|known| known.expires.is_none_or(|expires| expires > self.unix_now)) {
                    return Err(format!("a token '{name}' already exists; revoke it first"));
                }
                if known.is_none() && self.state.tokens.len() >= TOKENS_MAX {
                    return Err(format!("there are {TOKENS_MAX} tokens; revoke those that nobody uses"));
                }
                self.record(Record::TokenAdded { token });
            }
            TokenOrder::Revoke { name } => {
                if !self.state.tokens.contains_key(&name) {
                    return Err(format!("a token '{name}' does not exist"));
                }
                self.record(Record::TokenRevoked { name, unix: self.unix_now });
            }
        }
        Ok(())
    }
}
