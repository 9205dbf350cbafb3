//! Sealed lines: the journal and plans are JSON lines, and each line carries a checksum of itself and of all lines before
//! it. So a line that was changed, inserted, removed or moved is noticed, and it stays a line of JSON that people and tools
//! can read.
//!
//! ```text
//! {"head":{…},"sum":"5d41402a"}
//! {"intent":{…},"sum":"9b74c989"}
//! ```
//!
//! The checksum is a CRC-32. It shows accidents and edits by hand, and is no protection against somebody who wants to
//! deceive.

/// What a sealed line ends with, apart from the line break: `,"sum":"` and eight hexadecimal digits and `"}`.
const SUM: &[u8] = b",\"sum\":\"";
const DIGITS: usize = 8;
const END: &[u8] = b"\"}";

/// The checksum of all lines so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal(u32);

impl Seal {
    /// Seals the line that begins at `start` of `lines`, a JSON object that is not empty, and ends it with a line break.
    pub(crate) fn close(&mut self, lines: &mut Vec<u8>, start: usize) {
        lines.pop();
        self.add(lines.get(start..).unwrap_or_default());
        lines.extend_from_slice(SUM);
        lines.extend_from_slice(format!("{:08x}", self.0).as_bytes());
        lines.extend_from_slice(END);
        lines.push(b'\n');
    }

    /// Checks the next line, with its line break. Returns `false` if it, or a line before it, is not as it was written.
    pub(crate) fn check(&mut self, line: &[u8]) -> bool {
        let Some((body, sum)) = parts(line) else {
            return false;
        };
        self.add(body);
        sum == format!("{:08x}", self.0).as_bytes()
    }

    fn add(&mut self, body: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(body);
        self.0 = hasher.finalize();
    }
}

/// Takes the checksum off a line, so that what was sealed is left. A line without one stays as it is.
pub(crate) fn unseal(line: &mut Vec<u8>) {
    if let Some((body, _)) = parts(line) {
        let length = body.len();
        line.truncate(length);
        line.extend_from_slice(b"}\n");
    }
}

/// Returns what of a line is sealed, and its checksum.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\n")?.strip_suffix(END)?;
    let (line, sum) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    Some((line.strip_suffix(SUM)?, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut lines = Vec::new();
        let mut seal = Seal::default();
        for line in ["{\"a\":1}", "{\"b\":\"x\"}", "{\"c\":[]}"] {
            let start = lines.len();
            lines.extend_from_slice(line.as_bytes());
            seal.close(&mut lines, start);
        }
        lines
    }

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        text.split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    }

    fn is_whole(lines: &[Vec<u8>]) -> bool {
        let mut seal = Seal::default();
        lines.iter().all(|line| seal.check(line))
    }

    #[test]
    fn any_change_breaks_a_seal() {
        let text = sealed();
        let whole = lines(&text);
        assert!(is_whole(&whole));
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(!is_whole(&lines(&changed)), "byte {at}");
        }
        assert!(
            !is_whole(&[whole[0].clone(), whole[2].clone()]),
            "one is missing"
        );
        assert!(
            !is_whole(&[whole[1].clone(), whole[0].clone()]),
            "they are swapped"
        );
        assert!(
            !is_whole(&[&whole[..2], &whole[1..]].concat()),
            "one is doubled"
        );
    }

    #[test]
    fn an_unsealed_line_is_what_was_sealed() {
        let mut first = lines(&sealed()).remove(1);
        unseal(&mut first);
        assert_eq!(first, b"{\"b\":\"x\"}\n");
        unseal(&mut first);
        assert_eq!(first, b"{\"b\":\"x\"}\n");
    }
}
