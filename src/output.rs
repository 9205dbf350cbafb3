//! The only module that writes to the terminal: the preview and the summary to stdout, all else to stderr.
//!
//! Text from a server or a file is shown without control characters, so that no value can move the cursor. If
//! the reader of a pipe goes away, the run stops, as it does when the terminal is closed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;

/// Text from outside, made safe for a terminal: control characters are shown as escapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain<T>(pub T);

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'f, 'g>(&'f mut fmt::Formatter<'g>);
        impl fmt::Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                let mut rest = text;
                while let Some(at) = rest.find(is_unsafe) {
                    let (safe, from) = rest.split_at(at);
                    self.0.write_str(safe)?;
                    let mut chars = from.chars();
                    if let Some(bad) = chars.next() {
                        write!(self.0, "{}", bad.escape_unicode())?;
                    }
                    rest = chars.as_str();
                }
                self.0.write_str(rest)
            }
        }
        write!(Filter(f), "{}", self.0)
    }
}

/// Like [`Plain`], but keeps line breaks. For the tool's own messages, which may quote text from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines<T>(pub T);

impl<T: fmt::Display> fmt::Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.to_string().split('\n').enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            write!(f, "{gap}{}", Plain(line))?;
        }
        Ok(())
    }
}

/// Makes JSON safe for a terminal. The characters that [`Plain`] escapes occur only inside its strings, where
/// JSON escapes can replace them.
pub(crate) fn plain_json(lines: &str) -> String {
    let mut plain = String::with_capacity(lines.len());
    for c in lines.chars() {
        if c != '\n' && is_unsafe(c) {
            let _ = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Returns whether `c` is a control character, a Unicode line separator, or a mark that changes the text
/// direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The shared writer for stdout and stderr. While a progress bar is shown, lines are printed above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    bar: Arc<Mutex<Option<ProgressBar>>>,
    closed: Arc<AtomicBool>,
}

impl Output {
    /// Prints lines above `bar` from now on, or without a bar.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    /// Writes lines to stderr, above the bar.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        let _ = self.write(&mut io::stderr().lock(), format_args!("{text}\n"));
    }

    /// Writes text to stdout unchanged.
    ///
    /// # Errors
    /// Returns an error if the write fails. A reader that has gone away is not an error.
    pub(crate) fn print(&self, text: impl fmt::Display) -> io::Result<()> {
        match self.write(&mut io::stdout().lock(), format_args!("{text}")) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a question to stderr and reads the answer.
    ///
    /// # Errors
    /// Returns an error if the terminal can't be read.
    pub(crate) fn ask(&self, question: impl fmt::Display) -> io::Result<String> {
        self.write(&mut io::stderr().lock(), format_args!("{question} "))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// Returns whether a write has failed, for example because the other end was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn write(&self, stream: &mut dyn Write, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut write = || stream.write_fmt(text).and_then(|()| stream.flush());
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &*bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        // The failure can't be reported anywhere; it stops the run.
        if result.is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Returns whether the reader has gone away: the pipe is closed, or the terminal is (EIO, which has no
/// `ErrorKind`).
fn is_gone(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::BrokenPipe || (cfg!(unix) && error.raw_os_error() == Some(EIO))
}

/// The writer for the log. Each write is one complete event.
impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        Self::write(self, &mut io::stderr().lock(), format_args!("{text}"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a word as a shell reads it: quoted if it needs to be.
pub(crate) fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The escape sequences that style text on a terminal; all are empty without colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub red: &'static str,
    pub green: &'static str,
    pub bold: &'static str,
    pub off: &'static str,
}

impl Style {
    /// Returns the sequences, or empty ones without `colour`.
    pub(crate) const fn new(colour: bool) -> Self {
        if colour {
            Self {
                red: "\u{1b}[31m",
                green: "\u{1b}[32m",
                bold: "\u{1b}[1m",
                off: "\u{1b}[0m",
            }
        } else {
            Self {
                red: "",
                green: "",
                bold: "",
                off: "",
            }
        }
    }
}

/// Returns whether stdin and stderr are terminals, so that questions can be asked.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Returns whether stderr is a terminal, so that a progress bar can be shown.
pub(crate) fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether output to stdout may use colours.
pub(crate) fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && colours_are_wanted()
}

/// Returns whether output to stderr may use colours.
pub(crate) fn stderr_has_colour() -> bool {
    has_terminal() && colours_are_wanted()
}

/// Returns whether `NO_COLOR` (no-color.org) is unset and the terminal is not `dumb`.
fn colours_are_wanted() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// Returns a value for a message, shortened if it is long.
pub(crate) fn shortened(value: &str) -> Cow<'_, str> {
    const MOST: usize = 60;
    match value.char_indices().nth(MOST) {
        None => Cow::Borrowed(value),
        Some((end, _)) => Cow::Owned(format!("{}…", value.get(..end).unwrap_or_default())),
    }
}

/// The largest number of lines that one message names.
pub(crate) const LINES_SHOWN: usize = 10;

/// Formats line numbers as `lines 3, 9 and 12`, shortened if there are many. `all` is their number, of which `lines` may
/// have only the first [`LINES_SHOWN`].
pub(crate) fn line_list(all: usize, lines: impl Iterator<Item = u64>) -> String {
    let mut shown: Vec<String> = lines
        .take(LINES_SHOWN)
        .map(|line| line.to_string())
        .collect();
    if all > shown.len() {
        return format!("lines {} and {} more", shown.join(", "), all - shown.len());
    }
    match shown.pop() {
        Some(last) if !shown.is_empty() => format!("lines {} and {last}", shown.join(", ")),
        Some(last) => format!("line {last}"),
        None => String::new(),
    }
}

/// Formats a number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with its noun: `1 row`, `2 rows`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    let mut text = grouped(number);
    let _ = write!(text, " {noun}{}", if number == 1 { "" } else { "s" });
    text
}

/// Formats a time span for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn span(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a float saturates, and nobody waits so long"
    )]
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            Plain("a\u{1b}[31mb\r\u{202e}ü").to_string(),
            "a\\u{1b}[31mb\\u{d}\\u{202e}ü"
        );
    }

    #[test]
    fn plain_json_escapes_text_and_stays_valid_json() {
        let text = "a\u{9b}31m\u{7f}\u{202e}b";
        let plain = plain_json(&format!("{{\"m\":\"{text}\"}}\n"));
        assert_eq!(plain, "{\"m\":\"a\\u009b31m\\u007f\\u202eb\"}\n");
        let value: serde_json::Value = serde_json::from_str(&plain).expect("JSON");
        assert_eq!(value.get("m").and_then(|m| m.as_str()), Some(text));
    }

    #[test]
    fn numbers_and_time_spans_are_formatted_for_people() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(
            [0.44, 59.6, 200.0, 7500.0].map(span),
            ["0.4 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
        );
    }
}
