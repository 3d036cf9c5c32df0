//! How text becomes words, alike when it is indexed and when it is searched for.
//!
//! A word is a run of letters, digits and `_`. Case is folded, and accents of Latin letters are dropped, as searchd's
//! default character table does.

use std::ops::RangeInclusive;

/// Appends the words of `text`, folded, each followed by a space.
pub(super) fn fold_into(text: &str, folded: &mut String) {
    let mut inside = false;
    for c in text.chars() {
        if c.is_ascii() {
            let b = c as u8;
            if b.is_ascii_alphanumeric() || b == b'_' {
                folded.push(b.to_ascii_lowercase() as char);
                inside = true;
                continue;
            }
        } else if c.is_alphanumeric() {
            fold_letter(c, folded);
            inside = true;
            continue;
        } else if inside && is_combining(c) {
            continue;
        }
        if inside {
            folded.push(' ');
            inside = false;
        }
    }
    if inside {
        folded.push(' ');
    }
}

/// The words of a part of a search query.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut folded = String::new();
    fold_into(text, &mut folded);
    folded.split_ascii_whitespace().map(str::to_owned).collect()
}

fn is_combining(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

fn fold_letter(c: char, folded: &mut String) {
    if let Some((_, base)) = LATIN.iter().find(|(range, _)| range.contains(&c)) {
        folded.push_str(base);
    } else {
        folded.extend(c.to_lowercase().filter(|lower| !is_combining(*lower)));
    }
}

/// Accented letters of Latin-1 and Latin Extended-A with their base letters.
const LATIN: [(RangeInclusive<char>, &str); 42] = [
    ('À'..='Å', "a"),
    ('Æ'..='Æ', "ae"),
    ('Ç'..='Ç', "c"),
    ('È'..='Ë', "e"),
    ('Ì'..='Ï', "i"),
    ('Ð'..='Ð', "d"),
    ('Ñ'..='Ñ', "n"),
    ('Ò'..='Ö', "o"),
    ('Ø'..='Ø', "o"),
    ('Ù'..='Ü', "u"),
    ('Ý'..='Ý', "y"),
    ('Þ'..='Þ', "th"),
    ('ß'..='ß', "ss"),
    ('à'..='å', "a"),
    ('æ'..='æ', "ae"),
    ('ç'..='ç', "c"),
    ('è'..='ë', "e"),
    ('ì'..='ï', "i"),
    ('ð'..='ð', "d"),
    ('ñ'..='ñ', "n"),
    ('ò'..='ö', "o"),
    ('ø'..='ø', "o"),
    ('ù'..='ü', "u"),
    ('ý'..='ÿ', "y"),
    ('Ā'..='ą', "a"),
    ('Ć'..='č', "c"),
    ('Ď'..='đ', "d"),
    ('Ē'..='ě', "e"),
    ('Ĝ'..='ģ', "g"),
    ('Ĥ'..='ħ', "h"),
    ('Ĩ'..='ı', "i"),
    ('Ĵ'..='ĵ', "j"),
    ('Ķ'..='ĸ', "k"),
    ('Ĺ'..='ł', "l"),
    ('Ń'..='ŋ', "n"),
    ('Ō'..='ő', "o"),
    ('Œ'..='œ', "oe"),
    ('Ŕ'..='ř', "r"),
    ('Ś'..='š', "s"),
    ('Ţ'..='ŧ', "t"),
    ('Ũ'..='ų', "u"),
    ('Ź'..='ž', "z"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_and_folded_as_searchd_does() {
        for (text, expected) in [
            ("Quick, BROWN-fox's jump_s", vec!["quick", "brown", "fox", "s", "jump_s"]),
            ("Café NAÏVE Straße Łódź", vec!["cafe", "naive", "strasse", "lodz"]),
            ("cafe\u{301} Ünïcode", vec!["cafe", "unicode"]),
            ("Привет МИР 3.14", vec!["привет", "мир", "3", "14"]),
            (" -- !", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }
}
