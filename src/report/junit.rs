//! A report for CI systems, in the form of `JUnit`: a test case for each row. Rows are written as they come.

use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::document::{Report, ReportRow};
use crate::model::Outcome;

/// Writes a report.
pub(crate) struct JunitWriter<W: Write> {
    writer: Writer<W>,
    class: String,
}

impl<W: Write> JunitWriter<W> {
    /// Writes the begin of a report.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn new(file: W, report: &Report) -> io::Result<Self> {
        let mut writer = Writer::new_with_indent(file, b' ', 2);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let title = valid(&report.title());
        let skipped = report.summary.of(Outcome::NotAttempted);
        let failures: u64 = (Outcome::ALL.into_iter())
            .filter(|outcome| !outcome.is_success() && *outcome != Outcome::NotAttempted)
            .map(|outcome| report.summary.of(outcome))
            .sum();
        let (tests, failures) = (report.summary.rows.to_string(), failures.to_string());
        let (skipped, time) = (
            skipped.to_string(),
            report.summary.elapsed_seconds.to_string(),
        );
        let counts = [
            ("name", title.as_str()),
            ("tests", tests.as_str()),
            ("failures", failures.as_str()),
            ("errors", "0"),
            ("time", time.as_str()),
        ];
        let suites = BytesStart::new("testsuites").with_attributes(counts);
        writer.write_event(Event::Start(suites))?;
        let timestamp = report.summary.started_at.as_str();
        let more = [("skipped", skipped.as_str()), ("timestamp", timestamp)];
        let suite = BytesStart::new("testsuite").with_attributes(counts.into_iter().chain(more));
        writer.write_event(Event::Start(suite))?;
        Ok(Self {
            writer,
            class: valid(&report.input),
        })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn row(&mut self, row: &ReportRow) -> io::Result<()> {
        let name = valid(&format!("line {}: {}", row.line, row.email));
        let attributes = [("name", name.as_str()), ("classname", self.class.as_str())];
        let case = BytesStart::new("testcase").with_attributes(attributes);
        let message = valid(&row.message);
        let changes = valid(&row.changes);
        match row.outcome {
            outcome if outcome.is_success() => {
                if changes.is_empty() {
                    return self.writer.write_event(Event::Empty(case));
                }
                self.writer.write_event(Event::Start(case))?;
                self.element("system-out", &[], &changes)?;
            }
            Outcome::NotAttempted => {
                self.writer.write_event(Event::Start(case))?;
                self.element("skipped", &[("message", &message)], "")?;
            }
            outcome => {
                self.writer.write_event(Event::Start(case))?;
                let attributes = [("message", message.as_str()), ("type", outcome.name())];
                self.element("failure", &attributes, &changes)?;
            }
        }
        self.writer
            .write_event(Event::End(BytesEnd::new("testcase")))
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) -> io::Result<()> {
        let start = BytesStart::new(name).with_attributes(attributes.iter().copied());
        if text.is_empty() {
            return self.writer.write_event(Event::Empty(start));
        }
        self.writer.write_event(Event::Start(start))?;
        self.writer.write_event(Event::Text(BytesText::new(text)))?;
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }

    /// Writes the end.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn end(mut self) -> io::Result<()> {
        for name in ["testsuite", "testsuites"] {
            self.writer.write_event(Event::End(BytesEnd::new(name)))?;
        }
        let mut file = self.writer.into_inner();
        file.write_all(b"\n")?;
        file.flush()
    }
}

/// Returns text without the characters that XML 1.0 forbids (<https://www.w3.org/TR/xml/#charsets>).
fn valid(text: &str) -> String {
    let is_valid = |c: &char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    text.chars().filter(is_valid).collect()
}
