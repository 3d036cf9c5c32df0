//! What may be a secret is taken out of texts before they are logged, audited or shown.
//!
//! Secrets come from files and from the environment and are handed on by reference; this is the second line, for texts that
//! others made: URLs with a password, errors that repeat a header.

use serde_json::Value;
use std::borrow::Cow;

const HIDDEN: &str = "***";
/// Words that a name of a secret has in it.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "secret", "authorization", "credential", "sha256"];
/// Marks before what must not be shown, up to the next space or quote.
const SECRET_MARKS: [&str; 6] = ["bearer ", "basic ", "password=", "passwd=", "secret=", "token="];

/// `text` without passwords in URLs and without what follows `Bearer`, `password=` and the like.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    let mut from = 0;
    while let Some(at) = shown[from..].find("://").map(|at| from + at + 3) {
        let rest = &shown[at..];
        let end = rest.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(rest.len());
        from = at;
        if let Some(user) = rest[..end].rfind('@') {
            shown.to_mut().replace_range(at..at + user, HIDDEN);
        }
    }
    for mark in SECRET_MARKS {
        let mut from = 0;
        while let Some(at) = shown[from..].to_ascii_lowercase().find(mark).map(|at| from + at + mark.len()) {
            let rest = &shown[at..];
            let end = rest.find([' ', '"', '\'', '&', ',', ';', '\n']).unwrap_or(rest.len());
            if end > 0 {
                shown.to_mut().replace_range(at..at + end, HIDDEN);
            }
            from = at;
        }
    }
    shown
}

/// The same for every text inside, and every value whose name is that of a secret.
pub(crate) fn json(value: &mut Value) {
    match value {
        Value::String(string) => {
            if let Cow::Owned(shown) = text(string) {
                *string = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(json),
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                if SECRET_WORDS.iter().any(|word| name.contains(word)) {
                    *value = Value::String(HIDDEN.to_owned());
                } else {
                    json(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_do_not_pass() {
        for (given, shown) in [
            ("etcd://u:p@10.0.0.1:2379/x", "etcd://***@10.0.0.1:2379/x"),
            ("http://a:b@h/ and https://c:d@e@i?x", "http://***@h/ and https://***@i?x"),
            ("Authorization: Bearer abc.def, then", "Authorization: Bearer ***, then"),
            ("password=x&token=y", "password=***&token=***"),
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("ünknown://", "ünknown://"),
        ] {
            assert_eq!(text(given), shown);
        }
        let mut value = serde_json::json!({ "a": { "Secret_Key": [1] }, "b": ["ftp://u:p@h"], "c": 1 });
        json(&mut value);
        assert_eq!(value, serde_json::json!({ "a": { "Secret_Key": "***" }, "b": ["ftp://***@h"], "c": 1 }));
    }
}
