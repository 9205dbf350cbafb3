//! What counts as an email address, for every column and setting that takes one, and which address a wrong text seems to
//! hold.

use unicode_normalization::char::is_combining_mark;

use super::text::is_invisible;

/// The longest email address, in bytes: 64 before the `@` and 255 after it (RFC 5321, 4.5.3.1).
const MAX_EMAIL: usize = 320;
/// The longest part before the `@`, in bytes (RFC 5321, 4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// The longest label of a domain, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// The characters besides letters and digits that the part before the `@` may have (RFC 5322, 3.2.3, `atext`).
const LOCAL_SYMBOLS: &str = "!#$%&'*+-/=?^_`{|}~";

/// Returns whether the text is an email address, as RFC 5322 has it without quotes and comments, and with letters of any
/// script (RFC 6531). An apostrophe in front is refused, because it is a remnant of quotes or of a spreadsheet. Whether
/// the address exists is for the API to say.
#[must_use]
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    text.len() <= MAX_EMAIL && is_local(local) && is_domain(domain)
}

fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || is_combining_mark(c)
}

fn is_local(local: &str) -> bool {
    local.len() <= MAX_LOCAL
        && !local.starts_with('\'')
        && local.split('.').all(|part| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| is_letter(c) || LOCAL_SYMBOLS.contains(c))
        })
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| is_letter(c) || c == '-')
    })
}

/// Returns the address that a text seems to hold, although it is not one: without `mailto:`, brackets, quotes, other
/// words, punctuation around it, and characters that can't be seen. Returns `None` if it holds none, or several.
#[must_use]
pub(crate) fn address_in(text: &str) -> Option<String> {
    let clean: String = text
        .chars()
        .filter_map(|c| match c {
            // Hyphens that only look like one, and the full-width forms of East Asian keyboards.
            '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
            '\u{FF20}' => Some('@'),
            '\u{FF0E}' | '\u{3002}' => Some('.'),
            c if c.is_whitespace() => Some(' '),
            c if is_invisible(c) => None,
            c => Some(c),
        })
        .collect();
    let clean = clean.replace("%40", "@").replace("@@", "@");
    let is_separator = |c: char| c.is_whitespace() || "<>()[],;:\"“”„‘’«»|\\".contains(c);
    let mut found: Option<String> = None;
    for word in clean.split(is_separator) {
        let mut word = word.trim_matches(['.', '\'', '=']).to_owned();
        while word.contains("..") {
            word = word.replace("..", ".");
        }
        if !is_email(&word) || found.as_deref() == Some(word.as_str()) {
            continue;
        }
        if found.is_some() {
            return None;
        }
        found = Some(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_have_them_are_right() {
        for right in [
            "a@x.org",
            "a@b",
            "first.last+tag@sub.x-y.org",
            "o'neil@x.org",
            "a%2Bb@x.org",
            "a&b=c@x.org",
            "jörg@münchen.de",
            "用户@例子.公司",
            "cafe\u{301}@x.org",
            "_x_@x.org",
        ] {
            assert!(is_email(right), "{right}");
        }
    }

    /// The wrong text, and the address that it seems to hold.
    #[test]
    fn wrong_addresses_suggest_the_right_one() {
        for (wrong, suggestion) in [
            ("mailto:a@x.org", Some("a@x.org")),
            ("<a@x.org>", Some("a@x.org")),
            ("Adam Baker <a@x.org>", Some("a@x.org")),
            ("a@x.org (Adam)", Some("a@x.org")),
            ("a@x.org;", Some("a@x.org")),
            ("a@x.org,", Some("a@x.org")),
            ("a@x.org.", Some("a@x.org")),
            (".a@x.org", Some("a@x.org")),
            ("a@@x.org", Some("a@x.org")),
            ("a@x..org", Some("a@x.org")),
            ("a..b@x.org", Some("a.b@x.org")),
            ("'a@x.org", Some("a@x.org")),
            ("'a@x.org'", Some("a@x.org")),
            ("\"a@x.org\"", Some("a@x.org")),
            ("“a@x.org”", Some("a@x.org")),
            ("=\"a@x.org\"", Some("a@x.org")),
            ("a%40x.org", Some("a@x.org")),
            ("a\u{FF20}x.org", Some("a@x.org")),
            ("a@x\u{2011}y.org", Some("a@x-y.org")),
            ("a@x.org; b@x.org", None),
            ("a@x.org b@x.org", None),
            ("a@x.org;a@x.org", Some("a@x.org")),
            ("Total", None),
            ("#N/A", None),
            ("@x.org", None),
            ("a@", None),
            ("a@-x.org", None),
            ("a b@x.org", Some("b@x.org")),
            ("", None),
        ] {
            assert!(!is_email(wrong), "{wrong}");
            assert_eq!(address_in(wrong).as_deref(), suggestion, "{wrong}");
        }
        for invisible in [
            '\u{200B}', '\u{200E}', '\u{AD}', '\u{FEFF}', '\u{202A}', '\u{2060}', '\u{7}',
        ] {
            for wrong in [
                format!("a{invisible}@x.org"),
                format!("{invisible}a@x.org"),
                format!("a@x.org{invisible}"),
            ] {
                assert!(!is_email(&wrong), "{wrong:?}");
                assert_eq!(address_in(&wrong).as_deref(), Some("a@x.org"), "{wrong:?}");
            }
        }
        let long = format!("{}@x.org", "a".repeat(65));
        assert!(!is_email(&long));
    }
}
