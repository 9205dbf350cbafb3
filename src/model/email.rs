//! What counts as an email address, for every column and setting that takes one.

/// The longest email address, in bytes: 64 before the `@` and 255 after it (RFC 5321, 4.5.3.1).
pub(crate) const MAX_EMAIL: usize = 320;

/// Returns whether the API could accept the text as an email address. Whether the address exists is for the API to
/// say.
pub(crate) fn is_email(text: &str) -> bool {
    text.len() <= MAX_EMAIL
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && text
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}
