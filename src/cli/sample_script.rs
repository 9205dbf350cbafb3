//! The spelling of Sigma's sample script, whose command line works unchanged.

use std::ffi::OsString;

/// Returns the arguments of the sample script in the form of this tool: `--client_id` becomes `--client-id`, and
/// `--abort_on_update_fail enable` becomes one word.
pub(super) fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const SWITCH: &str = "--abort-on-update-fail";
    let mut normal: Vec<OsString> = Vec::new();
    let mut rest = false;
    for arg in args {
        let Some(text) = arg.to_str().filter(|_| !rest) else {
            normal.push(arg);
            continue;
        };
        if text == "--" {
            rest = true;
        }
        let is_word = ["enable", "disable", "true", "false"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word));
        if is_word && let Some(last) = normal.last_mut().filter(|last| *last == SWITCH) {
            last.push("=");
            last.push(&arg);
            continue;
        }
        if text.starts_with("--") {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text, None),
            };
            let mut word = name.replace('_', "-");
            if let Some(value) = value {
                word.push('=');
                word.push_str(value);
            }
            normal.push(word.into());
        } else {
            normal.push(arg);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_underscores_and_a_file_may_follow_a_switch() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let args = normalize(words(
            "x update --client_id=a_b --abort_on_update_fail my_file.csv -- --a_b",
        ));
        assert_eq!(
            args,
            words("x update --client-id=a_b --abort-on-update-fail my_file.csv -- --a_b")
        );
    }
}
