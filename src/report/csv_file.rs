//! How CSV files are written so that `update` and spreadsheets read them as they are meant.

use std::io::{self, Write};

use crate::input::escape::escaped;
use crate::store::journal::Head;

/// The form of a CSV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CsvFormat {
    /// The byte between two cells.
    pub delimiter: u8,
    /// Whether the file begins with a byte order mark.
    pub byte_order_mark: bool,
    /// Whether the file is UTF-16 (little-endian) instead of UTF-8.
    pub is_utf16: bool,
}

impl CsvFormat {
    /// UTF-8 with commas.
    pub(crate) const PLAIN: Self = Self {
        delimiter: b',',
        byte_order_mark: false,
        is_utf16: false,
    };

    /// What Excel opens right by a double click, in every country: UTF-16 with tabs, which is what it writes itself as
    /// "Unicode Text". (It separates UTF-8 by what the country's settings say, and where a first line `sep=` says
    /// otherwise, it ignores the byte order mark.)
    pub(crate) const EXCEL: Self = Self {
        delimiter: b'\t',
        byte_order_mark: true,
        is_utf16: true,
    };

    /// Returns the form of the files of a run: that of its input.
    pub(crate) fn of(head: &Head) -> Self {
        Self {
            delimiter: u8::try_from(head.delimiter).unwrap_or(b','),
            byte_order_mark: head.byte_order_mark,
            is_utf16: false,
        }
    }

    /// Returns a writer of records.
    ///
    /// # Errors
    /// If the byte order mark can't be written.
    pub(crate) fn writer<W: Write>(self, file: W) -> io::Result<csv::Writer<Encoder<W>>> {
        let mut file = Encoder {
            file,
            is_utf16: self.is_utf16,
            pending: Vec::new(),
        };
        if self.byte_order_mark {
            file.write_all("\u{FEFF}".as_bytes())?;
        }
        Ok(csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .from_writer(file))
    }
}

/// Passes UTF-8 on, or encodes it as UTF-16.
#[derive(Debug)]
pub(crate) struct Encoder<W> {
    file: W,
    is_utf16: bool,
    /// The first bytes of a character whose rest has not come yet.
    pending: Vec<u8>,
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_utf16 {
            return self.file.write(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.pending.split_off(whole);
        let text = String::from_utf8(std::mem::replace(&mut self.pending, rest));
        let text = text.map_err(io::Error::other)?;
        let encoded: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        self.file.write_all(&encoded)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a record that is an input, and that a spreadsheet does not change.
///
/// # Errors
/// If it can't be written.
pub(crate) fn write_cells<'c, W: Write>(
    writer: &mut csv::Writer<W>,
    cells: impl IntoIterator<Item = &'c str>,
) -> csv::Result<()> {
    for cell in cells {
        writer.write_field(escaped(cell).as_bytes())?;
    }
    writer.write_record(None::<&[u8]>)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writers hand over their buffers at any byte.
    #[test]
    fn utf16_is_whole_wherever_the_bytes_are_cut() {
        let text = "a\tGarcía 😀\n";
        let expected: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for size in 1..text.len() {
            let mut encoder = Encoder {
                file: Vec::new(),
                is_utf16: true,
                pending: Vec::new(),
            };
            for part in text.as_bytes().chunks(size) {
                encoder.write_all(part).expect("memory");
            }
            assert_eq!(encoder.file, expected, "{size}");
        }
    }
}
