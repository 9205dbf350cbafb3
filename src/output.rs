//! The only place that writes to the terminal: stdout for the preview and the summary, stderr for all else.
//!
//! What comes from a server or a file is shown without control characters, so that nobody's name can move the
//! cursor. A closed pipe is noticed and stops the run like a closed terminal.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;

/// Text from outside, made fit for a terminal: control characters are shown as escapes.
#[derive(Clone, Copy, Debug)]
pub struct Plain<T>(pub T);

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

/// As [`Plain`], with its line breaks: a message of the tool itself, which may quote what is from outside.
#[derive(Clone, Copy, Debug)]
pub struct Lines<T>(pub T);

impl<T: fmt::Display> fmt::Display for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.0.to_string().split('\n').enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            write!(f, "{gap}{}", Plain(line))?;
        }
        Ok(())
    }
}

/// JSON made fit for a terminal: what [`Plain`] escapes stands in strings alone there, where JSON has escapes for it.
#[must_use]
pub fn plain_json(lines: &str) -> String {
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

/// Control characters, other ends of lines, and the marks that reverse the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Where the tool writes, shared by all who do. While there is a bar, lines are put above it.
#[derive(Clone, Debug, Default)]
pub struct Output {
    bar: Arc<Mutex<Option<ProgressBar>>>,
    closed: Arc<AtomicBool>,
}

impl Output {
    /// Shows lines above `bar` from now on, or without one.
    pub fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    /// Writes lines to stderr, above the bar.
    pub fn note(&self, text: impl fmt::Display) {
        let _ = self.write(&mut io::stderr().lock(), format_args!("{text}\n"));
    }

    /// Writes text to stdout as it stands.
    ///
    /// # Errors
    /// If that fails, but for a reader who has gone: that is the reader's business.
    pub fn print(&self, text: impl fmt::Display) -> io::Result<()> {
        match self.write(&mut io::stdout().lock(), format_args!("{text}")) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a question to stderr and reads the answer.
    ///
    /// # Errors
    /// If the terminal can't be read.
    pub fn ask(&self, question: impl fmt::Display) -> io::Result<String> {
        self.write(&mut io::stderr().lock(), format_args!("{question} "))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// Whether somebody closed the other end of what was written to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn write(&self, stream: &mut dyn Write, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut write = || stream.write_fmt(text).and_then(|()| stream.flush());
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &*bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        };
        // There is nobody to tell; the run stops.
        if result.is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Whether nobody reads any more: a pipe's other end is closed, or the terminal is (EIO, which has no kind).
fn is_gone(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::BrokenPipe || (cfg!(unix) && error.raw_os_error() == Some(EIO))
}

/// A writer for the log: each write is one whole event.
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

/// Whether a person sits at both ends: questions can be asked.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether stderr is a terminal: there can be a bar.
#[must_use]
pub fn has_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether stdout may be coloured.
#[must_use]
pub fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && colours_are_wanted()
}

/// Whether stderr may be coloured.
#[must_use]
pub fn stderr_has_colour() -> bool {
    has_terminal() && colours_are_wanted()
}

/// `NO_COLOR` (no-color.org) is not set, and the terminal knows more than letters.
fn colours_are_wanted() -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// A value as a message shows it: long ones are cut.
#[must_use]
pub fn shortened(value: &str) -> Cow<'_, str> {
    const MOST: usize = 60;
    match value.char_indices().nth(MOST) {
        None => Cow::Borrowed(value),
        Some((end, _)) => Cow::Owned(format!("{}…", value.get(..end).unwrap_or_default())),
    }
}

/// A number with a comma at each thousand.
#[must_use]
pub fn grouped(number: u64) -> String {
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

/// A number and its noun: `1 row`, `2 rows`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let mut text = grouped(number);
    let _ = write!(text, " {noun}{}", if number == 1 { "" } else { "s" });
    text
}

/// A time span as a person says it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
#[must_use]
pub fn span(seconds: f64) -> String {
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
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(
            Plain("a\u{1b}[31mb\r\u{202e}ü").to_string(),
            "a\\u{1b}[31mb\\u{d}\\u{202e}ü"
        );
    }

    #[test]
    fn json_stays_json() {
        let text = "a\u{9b}31m\u{7f}\u{202e}b";
        let plain = plain_json(&format!("{{\"m\":\"{text}\"}}\n"));
        assert_eq!(plain, "{\"m\":\"a\\u009b31m\\u007f\\u202eb\"}\n");
        let value: serde_json::Value = serde_json::from_str(&plain).expect("JSON");
        assert_eq!(value.get("m").and_then(|m| m.as_str()), Some(text));
    }

    #[test]
    fn numbers_read_well() {
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
