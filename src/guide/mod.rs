//! The longer documentation: one Markdown file for each topic, built into the binary and rendered by GitHub.

use std::borrow::Cow;
use std::fmt::Write as _;

use clap::ValueEnum;

use crate::settings;

macro_rules! topics {
    ($($name:ident, $file:literal, $title:literal;)*) => {
        /// A topic of the guide.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub(crate) enum Topic {
            Settings,
            $($name,)*
        }

        impl Topic {
            const ALL: &[Self] = &[Self::Settings, $(Self::$name,)*];

            /// Returns the text.
            pub(crate) fn text(self) -> Cow<'static, str> {
                match self {
                    Self::Settings => settings::example().into(),
                    $(Self::$name => include_str!($file).into(),)*
                }
            }

            const fn title(self) -> &'static str {
                match self {
                    Self::Settings => "every setting with its default (config.example.toml)",
                    $(Self::$name => $title,)*
                }
            }
        }
    };
}

topics! {
    FirstRun, "first-run.md", "the first five minutes: from the binary to a change of one member";
    Csv, "csv.md", "the CSV in full: columns, values, and how rows relate to each other";
    Pace, "pace.md", "how the tool finds the API's rate limit and stays below it";
    Safety, "safety.md", "limits, canaries, protected members, plans, and undo";
    Files, "files.md", "the files of a run";
    ExitCodes, "exit-codes.md", "the exit codes of the commands";
    Scheduling, "scheduling.md", "runs from cron, systemd and scripts";
    Cookbook, "cookbook.md", "recipes: leavers, another domain, dormant members, an HR feed, and more";
    Sandbox, "sandbox.md", "the simulated API, to rehearse against";
    Internals, "internals.md", "how it works inside";
}

/// Returns the list of topics.
pub(crate) fn index() -> String {
    let mut text = "Topics of the guide (sigma-bulk guide TOPIC):\n".to_owned();
    for topic in Topic::ALL {
        let name = topic.to_possible_value();
        let name = name.as_ref().map_or("", |value| value.get_name());
        let _ = writeln!(text, "  {name:12} {}", topic.title());
    }
    text
}

/// Returns the names of the topics.
pub(crate) fn names() -> impl Iterator<Item = String> {
    Topic::ALL
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_a_page_with_a_title() {
        for topic in Topic::ALL {
            assert!(topic.text().starts_with("# "), "{topic:?} has no title");
        }
    }
}
