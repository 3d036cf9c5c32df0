//! The option string of a cluster (`'gcache.size=8M;evs.suspect_timeout=PT1S' AS options`): what is read from it.
//!
//! Unknown keys are kept in the text and otherwise passed over, as the real replication library has hundreds.

use model::Millis;

/// How a member notices the death of others, and how much it keeps for those who return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Silence after which a member is suspected dead.
    pub suspect_timeout: Millis,
    /// Silence after which a suspicion is acted on at the latest.
    pub inactive_timeout: Millis,
    /// How often a sign of life is sent.
    pub keepalive_period: Millis,
    /// How often silence is looked for.
    pub check_period: Millis,
    /// How many bytes of applied writes are kept for members that return.
    pub history_bytes: usize,
}

/// The real library maps a file of this size by default; here it is memory, so the bound is lower.
const HISTORY_BYTES_MAX: usize = 16 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            suspect_timeout: Millis(5_000),
            inactive_timeout: Millis(15_000),
            keepalive_period: Millis(1_000),
            check_period: Millis(500),
            history_bytes: HISTORY_BYTES_MAX,
        }
    }
}

impl Options {
    /// Reads `text`; a known key with a value that cannot be read is refused with a reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("option '{pair}' has no value"));
            };
            let (key, value) = (key.trim(), value.trim());
            let field = match key {
                "evs.suspect_timeout" => &mut options.suspect_timeout,
                "evs.inactive_timeout" => &mut options.inactive_timeout,
                "evs.keepalive_period" => &mut options.keepalive_period,
                "evs.inactive_check_period" => &mut options.check_period,
                "gcache.size" => {
                    let bytes =
                        size(value).ok_or_else(|| format!("option '{key}' has the bad size '{value}'"))?;
                    options.history_bytes = bytes.min(HISTORY_BYTES_MAX);
                    continue;
                }
                _ => continue,
            };
            *field = duration(value)
                .filter(|time| time.0 > 0)
                .ok_or_else(|| format!("option '{key}' has the bad duration '{value}'"))?;
        }
        Ok(options)
    }
}

/// An ISO 8601 duration of hours, minutes and seconds: `PT1S`, `PT0.3S`, `PT1M30S`.
pub(super) fn duration(text: &str) -> Option<Millis> {
    let mut rest = text.strip_prefix("PT")?;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let number: f64 = rest[..end].parse().ok()?;
        millis += number
            * match rest.as_bytes()[end] {
                b'H' => 3_600_000.0,
                b'M' => 60_000.0,
                b'S' => 1_000.0,
                _ => return None,
            };
        rest = &rest[end + 1..];
    }
    (0.0..=86_400_000.0).contains(&millis).then_some(Millis(millis as u64))
}

/// Bytes with an optional unit: `8M`, `128K`, `1G`, `65536`.
fn size(text: &str) -> Option<usize> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<usize>().ok()?.checked_shl(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_options_are_read() {
        let text = "gcache.size=8M;evs.suspect_timeout=PT1S;evs.inactive_timeout=PT2S;evs.keepalive_period=PT0.3S;\
                    evs.inactive_check_period=PT0.3S";
        let options = Options::parse(text).expect("recorded");
        assert_eq!(options.suspect_timeout, Millis(1_000));
        assert_eq!(options.inactive_timeout, Millis(2_000));
        assert_eq!(options.keepalive_period, Millis(300));
        assert_eq!(options.check_period, Millis(300));
        assert_eq!(options.history_bytes, 8 << 20);
    }

    #[test]
    fn nonsense_is_refused_and_the_unknown_passed_over() {
        assert_eq!(Options::parse("gmcast.listen_addr=tcp://127.0.0.1:1"), Ok(Options::default()));
        for bad in
            ["evs.suspect_timeout=1", "evs.suspect_timeout=PT0S", "gcache.size=x", "evs.suspect_timeout"]
        {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("PT1M30S"), Some(Millis(90_000)));
    }
}
