//! The only module that writes to the terminal: the preview and the summary to stdout, all else to stderr.
//!
//! Text from a server or a file is shown without control characters, so that no value can move the cursor. If
//! the reader of a pipe goes away, the run stops, as it does when the terminal is closed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, TermLike};

use crate::clock::time_of_day;

/// The width that is assumed where the terminal does not say it.
const DEFAULT_WIDTH: usize = 80;

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

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorMode {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether stdout and stderr have colours.
#[derive(Clone, Copy, Debug)]
struct Colors {
    stdout: bool,
    stderr: bool,
}

impl ColorMode {
    fn colors(self) -> Colors {
        Colors {
            stdout: self.applies(&Term::stdout()),
            stderr: self.applies(&Term::stderr()),
        }
    }

    fn applies(self, terminal: &Term) -> bool {
        // The console of Windows prints the sequences as text until it is told to read them, which this call does.
        let reads_sequences = || !cfg!(windows) || terminal.features().colors_supported();
        // no-color.org
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        match self {
            Self::Auto => {
                terminal.is_term()
                    && variable("NO_COLOR").is_empty()
                    && variable("TERM") != "dumb"
                    && reads_sequences()
            }
            Self::Always => {
                reads_sequences();
                true
            }
            Self::Never => false,
        }
    }
}

/// The shared writer for stdout and stderr. While a progress bar is shown, lines are printed above it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    bar: Arc<Mutex<Option<ProgressBar>>>,
    closed: Arc<AtomicBool>,
    colors: Arc<OnceLock<Colors>>,
    /// The width of the terminal when the bar was drawn last.
    width: Arc<AtomicUsize>,
}

impl Output {
    /// Prints lines above `bar` from now on, or without a bar.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar;
    }

    /// Sets when colours are used. It is set once, when the settings are known.
    pub(crate) fn set_color(&self, mode: ColorMode) {
        let colors = *self.colors.get_or_init(|| mode.colors());
        // The bar and the questions of `init` have styles of their own.
        console::set_colors_enabled(colors.stdout);
        console::set_colors_enabled_stderr(colors.stderr);
    }

    fn colors(&self) -> Colors {
        let held = self.colors.get().copied();
        held.unwrap_or_else(|| ColorMode::default().colors())
    }

    /// Returns the style of text on stdout.
    pub(crate) fn stdout_style(&self) -> Style {
        Style::new(self.colors().stdout)
    }

    /// Returns the style of text on stderr.
    pub(crate) fn stderr_style(&self) -> Style {
        Style::new(self.stderr_has_color())
    }

    /// Returns whether text on stderr may use colours.
    pub(crate) fn stderr_has_color(&self) -> bool {
        self.colors().stderr
    }

    /// Writes lines to stderr, above the bar. A terminal gets them wrapped at words.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        let text = wrapped(&text.to_string(), width_of(&Term::stderr()));
        let _ = self.write(&mut io::stderr(), format_args!("{text}\n"));
    }

    /// Writes a line about what happens to stderr. Without a terminal, it begins with the time.
    pub(crate) fn event(&self, text: impl fmt::Display) {
        if has_terminal() {
            self.note(text);
        } else {
            self.note(format_args!("{} {text}", time_of_day()));
        }
    }

    /// Returns the width that the bar may use.
    pub(crate) fn bar_width(&self) -> usize {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        self.unwrap_bar(bar.as_ref()).saturating_sub(ECHO)
    }

    /// Returns the width of the terminal of the bar. If it has become narrower since it was asked last, the terminal has
    /// wrapped the bar, and all of its lines are removed: indicatif knows of one.
    fn unwrap_bar(&self, bar: Option<&ProgressBar>) -> usize {
        let width = width_of(&Term::stderr()).unwrap_or(DEFAULT_WIDTH);
        let before = self.width.swap(width, Ordering::Relaxed);
        if let Some(bar) = bar.filter(|_| width < before) {
            let rows = before.saturating_sub(ECHO).div_ceil(width.max(1));
            bar.suspend(|| {
                let _ = Term::stderr().clear_last_lines(rows.saturating_sub(1));
            });
        }
        width
    }

    /// Removes the bar, because the process is about to end.
    pub(crate) fn clear_bar(&self) {
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = bar.take() {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    /// Writes text to stdout unchanged.
    ///
    /// # Errors
    /// Returns an error if the write fails. A reader that has gone away is not an error.
    pub(crate) fn print(&self, text: impl fmt::Display) -> io::Result<()> {
        match self.write(&mut io::stdout(), format_args!("{text}")) {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes text for people to stdout. A terminal gets it wrapped at words.
    ///
    /// # Errors
    /// As [`Output::print`].
    pub(crate) fn print_lines(&self, text: &str) -> io::Result<()> {
        self.print(wrapped(text, width_of(&Term::stdout())))
    }

    /// Writes a question to stderr and reads the answer.
    ///
    /// # Errors
    /// Returns an error if the terminal can't be read.
    pub(crate) fn ask(&self, question: impl fmt::Display) -> io::Result<String> {
        let question = wrapped(&question.to_string(), width_of(&Term::stderr()));
        self.write(&mut io::stderr(), format_args!("{question} "))?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// Returns whether a write has failed, for example because the other end was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Writes to a stream that nobody holds: the thread that draws the bar holds the bar and waits for stderr, so that who
    /// held stderr and waited for the bar would wait for ever.
    fn write(&self, stream: &mut dyn Write, text: fmt::Arguments<'_>) -> io::Result<()> {
        let mut write = || stream.write_fmt(text).and_then(|()| stream.flush());
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &*bar {
            Some(bar) => {
                self.unwrap_bar(Some(bar));
                bar.suspend(write)
            }
            None => write(),
        };
        // The failure can't be reported anywhere; it stops the run.
        if result.is_err() {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Returns standard output as a file, for an export. A reader that goes away is an error there.
pub(crate) fn stdout_file() -> io::BufWriter<io::Stdout> {
    io::BufWriter::new(io::stdout())
}

/// Returns whether the reader has gone away: the pipe is closed, or the terminal is (EIO, which has no
/// `ErrorKind`).
pub(crate) fn is_gone(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.kind() == io::ErrorKind::BrokenPipe || (cfg!(unix) && error.raw_os_error() == Some(EIO))
}

/// The writer for the log. Each write is one complete event.
impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        Self::write(self, &mut io::stderr(), format_args!("{text}"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The escape sequences that style text on a terminal; all are empty without colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub red: &'static str,
    pub green: &'static str,
    pub yellow: &'static str,
    pub bold: &'static str,
    pub dim: &'static str,
    pub off: &'static str,
}

impl Style {
    /// Returns the sequences, or empty ones without `colour`.
    pub(crate) const fn new(colour: bool) -> Self {
        if colour {
            Self {
                red: "\u{1b}[31m",
                green: "\u{1b}[32m",
                yellow: "\u{1b}[33m",
                bold: "\u{1b}[1m",
                dim: "\u{1b}[2m",
                off: "\u{1b}[0m",
            }
        } else {
            Self {
                red: "",
                green: "",
                yellow: "",
                bold: "",
                dim: "",
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

/// The columns that stay free to the right of a bar: a terminal echoes Ctrl-C as `^C` at the cursor, and if that did not fit,
/// the bar would move up and stay there.
const ECHO: usize = 3;
/// How often a bar is drawn at most.
const DRAWS_PER_SECOND: u8 = 10;

/// Returns the terminal on which a bar is drawn.
pub(crate) fn bar_target() -> ProgressDrawTarget {
    ProgressDrawTarget::term_like_with_hz(
        Box::new(BarTerm(Term::buffered_stderr())),
        DRAWS_PER_SECOND,
    )
}

/// Standard error, with [`ECHO`] columns less.
#[derive(Debug)]
struct BarTerm(Term);

impl TermLike for BarTerm {
    fn width(&self) -> u16 {
        let width = width_of(&self.0).unwrap_or(DEFAULT_WIDTH);
        u16::try_from(width.saturating_sub(ECHO)).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.0.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.0.move_cursor_left(columns)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns the width of a terminal in columns; `None` without one.
fn width_of(term: &Term) -> Option<usize> {
    // The size of another terminal of the process would be no measure for a file.
    let size = (term.is_term()).then(|| term.size_checked()).flatten();
    size.map(|(_, columns)| usize::from(columns))
}

/// Returns text whose lines are wrapped at words, with a hanging indent, to `width` columns. A line with a command stays
/// whole, so that it can be copied.
fn wrapped(text: &str, width: Option<usize>) -> String {
    const HANGING: usize = 4;
    let Some(width) = width.filter(|width| *width > HANGING * 4) else {
        return text.to_owned();
    };
    let line = |line: &str| {
        let is_command = line.trim_start().starts_with("sigma-bulk ");
        if is_command || textwrap::core::display_width(line) <= width {
            return line.to_owned();
        }
        let own = line.len() - line.trim_start().len();
        let (first, rest) = (" ".repeat(own), " ".repeat(own + HANGING));
        let options = textwrap::Options::new(width)
            .initial_indent(&first)
            .subsequent_indent(&rest)
            .word_separator(textwrap::WordSeparator::AsciiSpace)
            // A path or an address stays whole, so that it can be copied.
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(line.trim_start(), options)
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
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

    /// A terminal on which a line is printed while the bar is drawn.
    #[derive(Debug)]
    struct Meeting {
        drawing: std::sync::mpsc::Sender<()>,
    }

    impl TermLike for Meeting {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn write_str(&self, _: &str) -> io::Result<()> {
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            // Time for the line to take what it can take before the bar is done.
            if self.drawing.send(()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            io::stderr().lock().flush()
        }
    }

    /// The thread that draws the bar holds the bar and wants stderr. A line must not want them in the other order.
    #[test]
    fn a_line_that_meets_the_bar_is_printed() {
        let (drawing, is_drawing) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        let target = ProgressDrawTarget::term_like(Box::new(Meeting { drawing }));
        let bar = ProgressBar::with_draw_target(Some(10), target);
        let output = Output::default();
        output.set_bar(Some(bar.clone()));
        let ticks = done.clone();
        std::thread::spawn(move || {
            bar.tick();
            let _ = ticks.send(());
        });
        std::thread::spawn(move || {
            let _ = is_drawing.recv();
            drop(is_drawing);
            output.note("a line");
            let _ = done.send(());
        });
        for _ in 0..2 {
            let end = is_done.recv_timeout(std::time::Duration::from_secs(20));
            assert!(end.is_ok(), "they wait for each other");
        }
    }

    #[test]
    fn lines_wrap_at_words_and_commands_stay_whole() {
        let text = "  one two three four five six\n    sigma-bulk update members.csv --cloud aws";
        assert_eq!(
            wrapped(text, Some(20)),
            "  one two three four\n      five six\n    sigma-bulk update members.csv --cloud aws"
        );
        let path = "runs/20261125T155408Z-input-dry-run";
        let files = format!("Files  {path} has them");
        let expected = format!("Files\n    {path}\n    has them");
        assert_eq!(wrapped(&files, Some(20)), expected, "a path is not cut");
        assert_eq!(wrapped(text, None), text);
        assert_eq!(wrapped(text, Some(0)), text);
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
