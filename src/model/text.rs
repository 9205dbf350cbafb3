//! Text as people see it: characters that can't be seen, values in messages, and forms that servers take for equal.

use std::borrow::Cow;
use std::fmt::Write as _;

use encoding_rs::Encoding;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The number of characters of a value that a message shows.
const SHOWN: usize = 60;

/// Returns whether a character can't be seen, or looks like a blank without being the usual one.
#[must_use]
pub(crate) fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
    // Letters that are blank: the fillers of Hangul, and the empty Braille pattern.
        || matches!(c, '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{2800}')
}

/// Returns a value as a message shows it: cut if it is long, and with invisible characters named by their code point.
#[must_use]
pub(crate) fn shown(value: &str) -> String {
    let mut text = String::new();
    for (index, c) in value.chars().enumerate() {
        if index == SHOWN {
            text.push('…');
            break;
        }
        // Two hyphens look like the usual one.
        if is_invisible(c) || matches!(c, '\u{2010}' | '\u{2011}') {
            let _ = write!(text, "<U+{:04X}>", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

/// Returns a value as a message quotes it; see [`shown`].
#[must_use]
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", shown(value))
}

/// Returns the letters and digits of a name, in lower case.
#[must_use]
pub(crate) fn bare(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Returns the name that `wanted` is likely to mean.
#[must_use]
pub(crate) fn nearest<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    /// Below this Jaro-Winkler similarity, names have little to do with each other.
    const ALIKE: f64 = 0.8;
    let wanted = bare(wanted);
    names
        .into_iter()
        .map(|name| {
            let other = bare(name);
            // Jaro-Winkler does not see that two letters of a short name change places.
            let is_a_slip =
                wanted.chars().count() > 2 && strsim::osa_distance(&other, &wanted) <= 1;
            let likeness = strsim::jaro_winkler(&other, &wanted);
            (
                if is_a_slip {
                    likeness.max(ALIKE)
                } else {
                    likeness
                },
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Returns ` (did you mean "…"?)` with the nearest name, or nothing.
#[must_use]
pub(crate) fn did_you_mean<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    nearest(wanted, names).map_or_else(String::new, |name| {
        format!(" (did you mean {}?)", quoted(name))
    })
}

/// Returns the text in Unicode's form NFC.
#[must_use]
pub(crate) fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfc(text) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.nfc().collect())
    }
}

/// Returns the form in which emails and account types are compared without regard to case: lower case, in NFC.
#[must_use]
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    // Most emails are lower case already, and need no copy.
    if text
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(nfc(text).to_lowercase())
    }
}

/// Returns whether two texts are the same to a server that normalizes: in NFC, and with runs of white space as one blank
/// and none at the ends.
#[must_use]
pub(crate) fn is_same_text(a: &str, b: &str) -> bool {
    let words = |text: &str| -> String {
        let normal = nfc(text);
        normal.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    a == b || words(a) == words(b)
}

/// The encodings of older programs, the most used ones first.
static OTHER_ENCODINGS: [&Encoding; 13] = [
    encoding_rs::WINDOWS_1252,
    encoding_rs::WINDOWS_1250,
    encoding_rs::WINDOWS_1251,
    encoding_rs::WINDOWS_1253,
    encoding_rs::WINDOWS_1254,
    encoding_rs::ISO_8859_2,
    encoding_rs::ISO_8859_15,
    encoding_rs::MACINTOSH,
    encoding_rs::IBM866,
    encoding_rs::SHIFT_JIS,
    encoding_rs::GBK,
    encoding_rs::BIG5,
    encoding_rs::EUC_KR,
];

/// Returns whether `wrong` is what a program shows that reads the UTF-8 of `right` in another encoding, or that can't
/// express its letters and puts question marks in their place. The characters that can't be seen do not count: programs
/// drop them.
#[must_use]
pub(crate) fn is_decoded_wrongly(wrong: &str, right: &str) -> bool {
    if right.is_ascii() || wrong == right {
        return false;
    }
    let seen = |text: &str| -> String { text.chars().filter(|c| !is_invisible(*c)).collect() };
    let shown = seen(wrong);
    let mark_of_each = |width: fn(char) -> usize| -> String {
        let shown = |c: char| match c {
            c if c.is_ascii() => std::iter::repeat_n(c, 1),
            c => std::iter::repeat_n('?', width(c)),
        };
        right.chars().flat_map(shown).collect()
    };
    shown == seen(&mark_of_each(|_| 1))
        || shown == seen(&mark_of_each(char::len_utf8))
        || OTHER_ENCODINGS.iter().any(|encoding| {
            shown == seen(&encoding.decode_without_bom_handling(right.as_bytes()).0)
        })
}

/// Returns how other encodings than UTF-8 read the bytes of a cell, with their names: only those in which the cell has
/// nothing but ASCII, letters of one alphabet, and punctuation, and of those that read it alike the first.
#[must_use]
pub(crate) fn readings(cell: &[u8]) -> Vec<(String, String)> {
    const MOST: usize = 5;
    let mut readings: Vec<(String, String)> = Vec::new();
    for encoding in OTHER_ENCODINGS {
        let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(cell) else {
            continue;
        };
        let is_known = readings.iter().any(|(_, known)| *known == text);
        if readings.len() < MOST && !is_known && is_of_one_alphabet(&text) {
            readings.push((encoding.name().to_lowercase(), text.into_owned()));
        }
    }
    readings
}

/// Returns whether all letters beyond ASCII are Latin if there are letters of ASCII, and whether there are no symbols.
fn is_of_one_alphabet(text: &str) -> bool {
    let is_latin =
        |c: char| matches!(c, '\u{C0}'..='\u{24F}' | '\u{1E00}'..='\u{1EFF}' | 'ª' | 'º');
    let is_punctuation = |c: char| "\u{A0}‘’“”„‚«»–—…·´".contains(c);
    let has_ascii = text.contains(|c: char| c.is_ascii_alphabetic());
    text.chars()
        .filter(|c| !c.is_ascii())
        .all(|c| is_punctuation(c) || c.is_alphabetic() && (!has_ascii || is_latin(c)))
}

/// Returns whether the text has signs that no name has: question marks, which a program puts in place of letters that its
/// encoding lacks, or symbols beside a letter, which stand where another encoding has letters (`Zo‰` for `Zoë`).
#[must_use]
pub(crate) fn looks_replaced(name: &str) -> bool {
    // Those that Windows-1252 and Macintosh have in place of letters of another, without those that people type: dashes,
    // quotes, accents, ordinals.
    let is_symbol = |c: char| "€†‡ˆ‰‹›•˜¡¢£¤¥¦§¨©¬¯°±²³¶¸¹¼½¾¿÷×√≈∆◊ˇ˘".contains(c);
    let is_beside_letter = |(a, b): (char, char)| {
        (a.is_alphabetic() && is_symbol(b)) || (is_symbol(a) && b.is_alphabetic())
    };
    name.contains('?')
        || !name.is_ascii() && name.chars().zip(name.chars().skip(1)).any(is_beside_letter)
}

/// Returns whether a part of the text is UTF-8 that was read in another encoding: `MarÃ­a` (Windows-1252), `Zo√´`
/// (Macintosh), `РњР°` (Windows-1251).
#[must_use]
pub(crate) fn looks_decoded_wrongly(text: &str) -> bool {
    // Returns the number of characters beyond ASCII that the run stood for, or 0 if it is no UTF-8.
    let hidden = |run: &str, encoding: &'static Encoding| {
        let (bytes, _, has_errors) = encoding.encode(run);
        match std::str::from_utf8(&bytes) {
            Ok(right) if !has_errors => right.chars().count(),
            _ => 0,
        }
    };
    text.split(|c: char| c.is_ascii())
        .filter(|run| !run.is_empty())
        .any(|run| {
            hidden(run, encoding_rs::WINDOWS_1252) > 0
                // In these two, letters that do stand beside each other in names may be UTF-8 by chance: `’É`, `Лі`.
                || run.starts_with('√') && hidden(run, encoding_rs::MACINTOSH) > 0
                || hidden(run, encoding_rs::WINDOWS_1251) > 1
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_named() {
        for (value, shown) in [
            ("Zed", "\"Zed\""),
            ("First\u{A0}Name", "\"First<U+00A0>Name\""),
            ("\u{FEFF}Email", "\"<U+FEFF>Email\""),
            ("a\u{7}b", "\"a<U+0007>b\""),
            ("a b", "\"a b\""),
            ("José", "\"José\""),
        ] {
            assert_eq!(quoted(value), shown);
        }
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), SHOWN + 3);
    }

    #[test]
    fn the_nearest_name_is_found_and_no_far_one() {
        let names = ["aws", "aws-eu", "azure", "azure-eu", "gcp", "gcp-eu"];
        for (wanted, name) in [
            ("gpc", Some("gcp")),
            ("GCP", Some("gcp")),
            ("azure_eu", Some("azure-eu")),
            ("azur", Some("azure")),
            ("digitalocean", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names), name, "{wanted}");
        }
        assert_eq!(did_you_mean("gpc", names), " (did you mean \"gcp\"?)");
        assert_eq!(did_you_mean("x", names), "");
    }

    #[test]
    fn wrong_decoding_is_recognized_and_right_text_is_not() {
        for (wrong, right) in [
            ("ZoÃ«", "Zoë"),
            ("MarÃ\u{AD}a", "María"),
            ("Zo?", "Zoë"),
            ("Zo??", "Zoë"),
            ("Åukasz", "Łukasz"),
            ("Å\u{81}ukasz", "Łukasz"),
            ("ZoÃ", "Zoà"),
            ("Zo√´", "Zoë"),
            ("РњР°СЂРёСЏ", "Мария"),
            ("ZoĂ«", "Zoë"),
        ] {
            assert!(is_decoded_wrongly(wrong, right), "{wrong}");
            assert!(!is_decoded_wrongly(right, right), "{right}");
            assert!(!is_decoded_wrongly(right, wrong), "{right}");
        }
        for wrong in [
            "ZoÃ«",
            "MarÃ\u{AD}a",
            "Ã‰mile",
            "Muâ€™ad",
            "ZoÃ« Łuk",
            "Zo√´",
            "РњР°СЂРёСЏ",
        ] {
            assert!(looks_decoded_wrongly(wrong), "{wrong}");
        }
        for right in [
            "Zoë",
            "María",
            "Ângela",
            "O’Neil",
            "d’Éon",
            "Лі",
            "Łukasz",
            "Ana",
            "São",
            "Ãna",
            "L’Étoile",
            "Мария",
            "Цієї",
            "山田",
            "𝒜",
            "é",
        ] {
            assert!(!looks_decoded_wrongly(right), "{right}");
        }
    }

    #[test]
    fn bytes_are_read_in_the_encodings_that_give_letters() {
        for (bytes, encoding, text) in [
            (&b"Zo\xEB"[..], "windows-1252", "Zoë"),
            (b"\xA3ukasz", "windows-1250", "Łukasz"),
            (b"Zo\x91", "macintosh", "Zoë"),
            (b"\x8E\x52\x93\x63", "shift_jis", "山田"),
            (b"\xCC\xE0\xF0\xE8\xFF", "windows-1251", "Мария"),
            (b"Anne\x96Marie\xA0", "windows-1252", "Anne–Marie\u{A0}"),
        ] {
            let readings = readings(bytes);
            let expected = (encoding.to_owned(), text.to_owned());
            assert!(readings.contains(&expected), "{text}: {readings:?}");
        }
        assert!(readings(b"Zo\xEB").iter().all(|(_, text)| text != "Zoл"));
        // ë in the code page of DOS, which browsers' encodings don't have.
        assert!(
            readings(b"Zo\x89")
                .iter()
                .all(|(name, _)| name != "windows-1252")
        );
    }

    #[test]
    fn signs_in_place_of_letters_are_seen() {
        for name in ["Zo?", "?ukasz", "???", "Zo‰", "Mu¤oz", "¦ukasz", "Garc¡a"] {
            assert!(looks_replaced(name), "{name}");
        }
        for name in [
            "Zoë",
            "O’Neil",
            "O´Neil",
            "Gal·la",
            "Smith–Jones",
            "Ann “Zed” Lee",
            "M.ª José",
            "Ana 😀",
            "Ωmega",
            "No. 1 ½",
        ] {
            assert!(!looks_replaced(name), "{name}");
        }
    }

    #[test]
    fn normalizing_servers_return_the_same_text() {
        for (a, b, same) in [
            ("José", "Jose\u{301}", true),
            ("Zed  Z", "Zed Z", true),
            (" Zed ", "Zed", true),
            ("", " ", true),
            ("Zed", "zed", false),
            ("ZedZ", "Zed Z", false),
        ] {
            assert_eq!(is_same_text(a, b), same, "{a:?} {b:?}");
        }
        assert_eq!(fold("JOSE\u{301}@x.org"), fold("josé@x.org"));
    }
}
