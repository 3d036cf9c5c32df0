//! Users of a node, as searchd has them with `auth = 1`: passwords, tokens and rules, in one file of the node's own.
//!
//! MySQL's native password needs the password's SHA-1, so the file has no better; its owner alone may read it.

mod order;
#[cfg(test)]
mod tests;

use crate::NodeError;
use crate::files;
use engine::sql::{self, needs};
use engine::{Column, ColumnKind, Reply, ResultSet, SqlError, Value};
use manticore::Login;
use model::{UserAction, UserRights, UserRule};
use order::Order;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Whom the node's own sidecar is, as searchd calls it. It may everything, and speak for anybody.
pub(crate) const SIDECAR: &str = "system.buddy";
/// MySQL's number for who is not let in, or may not.
pub(crate) const DENIED: u16 = 1045;
/// searchd's `auth_password_min_length`.
const PASSWORD_LENGTH_MIN: usize = 8;
const USERS_MAX: usize = 1000;
const RULES_OF_ONE_MAX: usize = 1000;
const NAME_LENGTH_MAX: usize = 128;
/// What a client's scrambled password is mixed with.
pub(crate) const NONCE_LEN: usize = 20;

/// One user's part of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Account {
    /// SHA-1 of the password, in hex.
    password_sha1: String,
    /// SHA-256 of the bearer token, in hex.
    token_sha256: String,
    rules: Vec<UserRule>,
}

type Accounts = BTreeMap<String, Account>;

/// All users of one node.
#[derive(Debug)]
pub(crate) struct Users {
    file: PathBuf,
    accounts: RwLock<Arc<Accounts>>,
    /// What the sidecar is let in by, until the node ends.
    sidecar_token: String,
}

/// Who is not let in, and how: as searchd says it.
fn refused(user: &str, password: bool) -> SqlError {
    let using = if password { "YES" } else { "NO" };
    denied(format!("Access denied for user '{user}' (using password: {using})"))
}

fn denied(message: String) -> SqlError {
    SqlError { code: DENIED, message }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

fn random_hex(bytes: usize) -> Result<String, NodeError> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|error| NodeError::NoRandomness(error.to_string()))?;
    Ok(hex(&buffer))
}

impl Account {
    /// Who may everything, and has no token.
    fn of_administrator(login: &Login) -> Self {
        let all = UserAction::ALL.map(|action| UserRule { action, target: "*".to_owned(), allow: true });
        Self {
            password_sha1: hex(&Sha1::digest(login.password.expose_secret())),
            token_sha256: String::new(),
            rules: all.to_vec(),
        }
    }
}

impl Users {
    /// Reads the file; where there is none yet, `first` becomes the administrator.
    pub(crate) fn open(dir: &Path, first: &Login) -> Result<Self, NodeError> {
        let file = dir.join("users.json");
        let accounts: Accounts = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| NodeError::Damaged { path: file.clone(), reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let accounts = Accounts::from([(first.name.clone(), Account::of_administrator(first))]);
                keep(&file, &accounts)?;
                accounts
            }
            Err(error) => return Err(NodeError::File { action: "read", path: file, error }),
        };
        Ok(Self { file, accounts: RwLock::new(Arc::new(accounts)), sidecar_token: random_hex(32)? })
    }

    pub(crate) fn sidecar_token(&self) -> &str {
        &self.sidecar_token
    }

    fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// By HTTP's Basic.
    pub(crate) fn by_password(&self, user: &str, password: &str) -> Result<String, SqlError> {
        let known = self.accounts().get(user).map(|account| account.password_sha1.clone());
        let given = hex(&Sha1::digest(password));
        if known.is_some_and(|known| same(&known, &given)) {
            Ok(user.to_owned())
        } else {
            Err(refused(user, true))
        }
    }

    /// By HTTP's Bearer.
    pub(crate) fn by_token(&self, token: &str) -> Result<String, SqlError> {
        if same(token, &self.sidecar_token) {
            return Ok(SIDECAR.to_owned());
        }
        let given = hex(&Sha256::digest(token));
        let accounts = self.accounts();
        let found = accounts.iter().find(|(_, account)| same(&account.token_sha256, &given));
        found.map(|(name, _)| name.clone()).ok_or_else(|| denied("Access denied for this token".to_owned()))
    }

    /// By MySQL's native password: `scrambled` is SHA1(password) xor SHA1(nonce, SHA1(SHA1(password))).
    pub(crate) fn by_scramble(
        &self,
        user: &str,
        nonce: &[u8; NONCE_LEN],
        scrambled: &[u8],
    ) -> Result<String, SqlError> {
        let refused = || refused(user, !scrambled.is_empty());
        let accounts = self.accounts();
        let known = accounts.get(user).ok_or_else(refused)?;
        let scrambled: &[u8; 20] = scrambled.try_into().map_err(|_| refused())?;
        // What the client must have begun from, if it is right.
        let twice = Sha1::digest(unhex(&known.password_sha1));
        let mask = Sha1::new().chain_update(nonce).chain_update(twice).finalize();
        let once: Vec<u8> = scrambled.iter().zip(mask).map(|(a, b)| a ^ b).collect();
        if same(&hex(&once), &known.password_sha1) { Ok(user.to_owned()) } else { Err(refused()) }
    }

    fn rights(&self, user: &str) -> UserRights {
        rights_in(&self.accounts(), user)
    }

    /// Whether the user may have this done. What cannot be read is answered by whoever reads it.
    pub(crate) fn permit(&self, user: &str, sql: &str) -> Result<(), SqlError> {
        let Ok(statement) = sql::parse(sql) else { return Ok(()) };
        let rights = self.rights(user);
        if needs::needs(&statement).iter().all(|need| need.is_met_by(&rights)) {
            return Ok(());
        }
        Err(not_permitted(user))
    }

    /// What the user sees of an answer: lists of tables have those that he may read.
    pub(crate) fn shown(&self, user: &str, sql: &str, reply: Reply) -> Reply {
        let Reply::Rows(mut set) = reply else { return reply };
        if let Ok(sql::Statement::ShowTables { .. }) = sql::parse(sql) {
            let rights = self.rights(user);
            let sees = |row: &Vec<Value>| match row.first() {
                Some(Value::Text(name)) => rights.may(UserAction::Read, name),
                _ => false,
            };
            set.rows.retain(sees);
            set.total = set.rows.len() as u64;
        }
        Reply::Rows(set)
    }

    /// The answer to a statement about users; `None` for any other.
    pub(crate) fn answer(&self, user: &str, sql: &str) -> Option<Result<Reply, SqlError>> {
        let order = order::read(sql)?;
        let rights = self.rights(user);
        if order == Order::ShowPermissions(None) && !rights.may_to_all(UserAction::Admin) {
            return Some(Ok(permissions([&rights])));
        }
        if !rights.may_to_all(UserAction::Admin) {
            return Some(Err(not_permitted(user)));
        }
        Some(self.carry_out(user, order))
    }

    /// What `by` has ordered, who was an administrator just now.
    fn carry_out(&self, by: &str, order: Order) -> Result<Reply, SqlError> {
        let done = Reply::Done { affected: 1 };
        match order {
            Order::ShowUsers => {
                let accounts = self.accounts();
                let names = accounts.keys().cloned().chain([SIDECAR.to_owned()]);
                Ok(table(&["username"], names.map(|name| vec![name]).collect()))
            }
            Order::ShowPermissions(None) => {
                let all: Vec<UserRights> = self.accounts().keys().map(|user| self.rights(user)).collect();
                Ok(permissions(&all))
            }
            Order::ShowPermissions(Some(user)) => {
                if user != SIDECAR && !self.accounts().contains_key(&user) {
                    return Err(SqlError::new(unknown(&user)));
                }
                Ok(permissions([&self.rights(&user)]))
            }
            Order::CreateUser { name, password } => self.create(by, name, &password),
            Order::DropUser(user) => self
                .change(by, |accounts| accounts.remove(&user).map(drop).ok_or_else(|| unknown(&user)))
                .map(|()| done),
            Order::Grant { action, target, user, allow } => {
                let rule = UserRule { action: action_of(&action)?, target, allow };
                self.change(by, |accounts| grant(accounts, &user, rule)).map(|()| done)
            }
            Order::Revoke { action, target, user } => {
                let action = action_of(&action)?;
                let revoke = |accounts: &mut Accounts| {
                    let held = accounts.get_mut(&user).ok_or_else(|| unknown(&user))?;
                    held.rules.retain(|rule| rule.action != action || rule.target != target);
                    Ok(())
                };
                self.change(by, revoke).map(|()| done)
            }
        }
    }

    fn create(&self, by: &str, name: String, password: &str) -> Result<Reply, SqlError> {
        if password.len() < PASSWORD_LENGTH_MIN {
            return Err(SqlError::new(format!("password must be at least {PASSWORD_LENGTH_MIN} characters")));
        }
        let token = random_hex(32).map_err(|error| SqlError::new(error.to_string()))?;
        let account = Account {
            password_sha1: hex(&Sha1::digest(password)),
            token_sha256: hex(&Sha256::digest(&token)),
            rules: Vec::new(),
        };
        let row = vec![token, name.clone()];
        self.change(by, |accounts| add(accounts, name, account))?;
        Ok(table(&["token", "username"], vec![row]))
    }

    /// Looks at the users and changes them, with nobody in between: two who come at once would both find room for one. So,
    /// too, for who orders it, whose own rights may have ended meanwhile. Durable before it holds.
    fn change(
        &self,
        by: &str,
        change: impl FnOnce(&mut Accounts) -> Result<(), String>,
    ) -> Result<(), SqlError> {
        let mut held = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        if !rights_in(&held, by).may_to_all(UserAction::Admin) {
            return Err(not_permitted(by));
        }
        let mut accounts = held.as_ref().clone();
        change(&mut accounts).map_err(SqlError::new)?;
        keep(&self.file, &accounts).map_err(|error| SqlError::new(error.to_string()))?;
        *held = Arc::new(accounts);
        Ok(())
    }
}

fn add(accounts: &mut Accounts, name: String, account: Account) -> Result<(), String> {
    if accounts.contains_key(&name) || name == SIDECAR {
        return Err(format!("user '{name}' already exists"));
    }
    if name.len() > NAME_LENGTH_MAX || name.chars().any(char::is_control) || name.contains(':') {
        return Err(format!(
            "a user's name has no colon, no control character and at most {NAME_LENGTH_MAX} bytes"
        ));
    }
    if accounts.len() >= USERS_MAX {
        return Err(format!("there are {USERS_MAX} users: drop some first"));
    }
    accounts.insert(name, account);
    Ok(())
}

fn grant(accounts: &mut Accounts, user: &str, rule: UserRule) -> Result<(), String> {
    let rules = &mut accounts.get_mut(user).ok_or_else(|| unknown(user))?.rules;
    if rules.iter().any(|held| held.action == rule.action && held.target == rule.target) {
        let (action, target) = (rule.action.as_str(), &rule.target);
        return Err(format!("user '{user}' already has '{action}' permission on '{target}'"));
    }
    if rules.len() >= RULES_OF_ONE_MAX {
        return Err(format!("user '{user}' has {RULES_OF_ONE_MAX} rules: revoke some first"));
    }
    rules.push(rule);
    Ok(())
}

fn rights_in(accounts: &Accounts, user: &str) -> UserRights {
    let rules = if user == SIDECAR {
        UserAction::ALL.map(|action| UserRule { action, target: "*".to_owned(), allow: true }).to_vec()
    } else {
        accounts.get(user).map(|account| account.rules.clone()).unwrap_or_default()
    };
    UserRights { user: user.to_owned(), rules }
}

fn unknown(user: &str) -> String {
    format!("user '{user}' not found")
}

fn not_permitted(user: &str) -> SqlError {
    denied(format!("Permission denied for user '{user}'"))
}

fn keep(file: &Path, accounts: &Accounts) -> Result<(), NodeError> {
    let failed = |error| NodeError::File { action: "write", path: file.to_owned(), error };
    let bytes = serde_json::to_vec_pretty(accounts).map_err(|error| failed(error.into()))?;
    files::write_private(file, &bytes)
}

fn action_of(name: &str) -> Result<UserAction, SqlError> {
    order::action(name).ok_or_else(|| SqlError::new(format!("unknown action '{name}'")))
}

/// Whether two secrets are one, in a time that does not tell how much of them is.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && !one.is_empty()
        && one.bytes().zip(other.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

fn permissions<'a>(all: impl IntoIterator<Item = &'a UserRights>) -> Reply {
    let row = |user: &str, rule: &UserRule| {
        let allow = if rule.allow { "1" } else { "0" };
        [user, rule.action.as_str(), &rule.target, allow, ""].map(str::to_owned).to_vec()
    };
    let rows = all.into_iter().flat_map(|rights| rights.rules.iter().map(|rule| row(&rights.user, rule)));
    table(&["username", "action", "target", "allow", "budget"], rows.collect())
}

fn table(names: &[&str], rows: Vec<Vec<String>>) -> Reply {
    let column = |name: &&str| Column { name: (*name).to_owned(), kind: ColumnKind::Text };
    let total = rows.len() as u64;
    let rows = rows.into_iter().map(|row| row.into_iter().map(Value::Text).collect()).collect();
    Reply::Rows(ResultSet {
        columns: names.iter().map(column).collect(),
        rows,
        total,
        warning: String::new(),
    })
}
