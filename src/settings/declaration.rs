//! Every setting, declared once. From these declarations follow the flag with its help, the key in the configuration
//! file, the environment variable, the line in config.example.toml, the default, which commands take it, and how a
//! suggested command repeats it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use serde::Deserialize;

use super::values::{
    ColorMode, Delimiter, EncodingName, FlagValue, LogFormat, NotifyOn, Rate, Share, Span, parsed,
    secret, switch,
};
use crate::input::header::ColumnName;
use crate::members::LookupMode;
use crate::pipeline::limits::Threshold;
use crate::sigma::hosts::Environment;

/// A command that takes settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CommandName {
    Init,
    Check,
    Export,
    Update,
    Resume,
    Undo,
    Apply,
    Runs,
    Report,
}

impl CommandName {
    /// All commands that take settings.
    pub(crate) const ALL: [Self; 9] = [
        Self::Init,
        Self::Check,
        Self::Export,
        Self::Update,
        Self::Resume,
        Self::Undo,
        Self::Apply,
        Self::Runs,
        Self::Report,
    ];

    /// Returns the name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Check => "check",
            Self::Export => "export",
            Self::Update => "update",
            Self::Resume => "resume",
            Self::Undo => "undo",
            Self::Apply => "apply",
            Self::Runs => "runs",
            Self::Report => "report",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Which commands take a setting as a flag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The commands whose help lists the flag.
    listed: u16,
    /// The commands that refuse the flag. The others accept it without listing it.
    refused: u16,
}

/// Commands that start a run.
const STARTING: u16 =
    CommandName::Update.bit() | CommandName::Undo.bit() | CommandName::Apply.bit();
/// Commands that work on a run.
const RUNNING: u16 = STARTING | CommandName::Resume.bit();
/// Commands that look at the organization and change nothing.
const LOOKING: u16 = CommandName::Init.bit() | CommandName::Check.bit() | CommandName::Export.bit();

/// Every command.
const ALL: Scope = Scope {
    listed: u16::MAX,
    refused: 0,
};
/// Commands that send requests.
const API: Scope = Scope {
    listed: RUNNING | LOOKING,
    refused: 0,
};
/// Commands that work on a run.
const RUNS: Scope = Scope {
    listed: RUNNING,
    refused: 0,
};
/// Commands that start a run. A resumed run keeps its own value.
const NEW_RUNS: Scope = Scope {
    listed: STARTING,
    refused: CommandName::Resume.bit(),
};
/// Commands that ask. The flag means nothing to a resume, which accepts it for scripts.
const ASKING: Scope = Scope {
    listed: STARTING | CommandName::Init.bit(),
    refused: 0,
};
/// Commands that write a file with a name of the user's.
const WRITING: Scope = Scope {
    listed: RUNNING | CommandName::Init.bit() | CommandName::Export.bit(),
    refused: 0,
};
/// `update` alone, because the other commands have their input already.
const INPUT: Scope = Scope {
    listed: CommandName::Update.bit(),
    refused: CommandName::Resume.bit() | CommandName::Undo.bit() | CommandName::Apply.bit(),
};
/// `update` and `check`, which read a CSV.
const CSV: Scope = Scope {
    listed: INPUT.listed | CommandName::Check.bit(),
    ..INPUT
};
/// Commands that need a host. The others know it, and only check that the flag names the same one.
const HOST: Scope = Scope {
    listed: CommandName::Update.bit() | LOOKING,
    refused: 0,
};

/// The type of a setting in [`Settings`].
macro_rules! resolved {
    (required, $type:ty) => { $type };
    (optional, $type:ty) => { Option<$type> };
}

/// The value of a setting in [`Settings`].
macro_rules! resolve {
    (required, $layer:ident, $name:ident) => {
        $layer
            .$name
            .ok_or(super::SettingsError::Default(stringify!($name)))?
    };
    (optional, $layer:ident, $name:ident) => {
        $layer.$name
    };
}

macro_rules! settings {
    ($($section:literal: {
        $(
            $(#[$meta:meta])*
            $name:ident: $type:ty = $kind:ident($example:literal), $scope:ident, [$($arg:tt)*];
        )*
    })*) => {
        /// The settings that one layer sets: the flags, the environment, or a configuration file.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[expect(clippy::doc_markdown, reason = "these are the texts of --help")]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub(crate) struct Layer {
            $($(
                $(#[$meta])*
                #[arg(long, help_heading = $section, $($arg)*)]
                pub $name: Option<$type>,
            )*)*
            /// Named sets of settings, one of which `--profile` selects.
            #[arg(skip)]
            pub(super) profile: BTreeMap<String, Layer>,
        }

        /// The settings of a run, after all layers are merged.
        #[derive(Clone, Debug)]
        pub(crate) struct Settings {
            $($(pub $name: resolved!($kind, $type),)*)*
        }

        impl Layer {
            /// Returns this layer with the settings of `below` where it sets none.
            pub(super) fn or(self, below: Self) -> Self {
                Self {
                    $($($name: self.$name.or(below.$name),)*)*
                    profile: BTreeMap::new(),
                }
            }

            /// Returns the names of the settings that this layer sets.
            pub(crate) fn names_set(&self) -> Vec<String> {
                let mut names = Vec::new();
                $($(if self.$name.is_some() { names.push(key(stringify!($name))); })*)*
                names
            }

            /// Returns the settings that this layer sets as the words of a command line, except secrets and those
            /// that `is_left_out` names.
            pub(crate) fn words(&self, is_left_out: impl Fn(&str) -> bool) -> Vec<String> {
                let mut words = Vec::new();
                $($(
                    let name = key(stringify!($name));
                    if let Some(value) = &self.$name && !is_left_out(&name) {
                        value.append(&format!("--{name}"), &mut words);
                    }
                )*)*
                words
            }
        }

        impl Settings {
            pub(super) fn from_layer(layer: Layer) -> Result<Self, super::SettingsError> {
                Ok(Self { $($($name: resolve!($kind, layer, $name),)*)* })
            }
        }

        /// Every setting, in the order of declaration.
        pub(super) const DECLARATIONS: &[Declaration] = &[$($(Declaration {
            field: stringify!($name),
            has_default: matches!(stringify!($kind).as_bytes(), b"required"),
            example: $example,
            scope: $scope,
        },)*)*];
    };
}

/// What is declared about a setting besides its type and its help.
pub(super) struct Declaration {
    /// The name in Rust.
    pub(super) field: &'static str,
    /// Whether `example` is the default. Otherwise the setting has none.
    pub(super) has_default: bool,
    /// The value in config.example.toml, in TOML.
    pub(super) example: &'static str,
    scope: Scope,
}

impl Declaration {
    /// Returns the name on the command line and in the configuration file.
    pub(super) fn key(&self) -> String {
        key(self.field)
    }
}

fn key(field: &str) -> String {
    field.replace('_', "-")
}

settings! {
    "Where and who": {
        /// The environment: production, staging, dev or sandbox
        ///
        /// `dev` is http://127.0.0.1:8081, and `sandbox` is a simulated API inside this tool.
        env: Environment = required("\"production\""), HOST, [value_enum, hide_possible_values = true, value_name = "ENV"];
        /// The cloud of your organization: aws, gcp, azure, …
        ///
        /// One of aws, aws-us-east, aws-ca, aws-eu, aws-au, aws-uk, gcp, gcp-sa, azure, azure-eu, azure-ca, azure-uk
        /// and azure-au. There is no default. In Sigma, Administration > Account > General Settings > Site shows it.
        cloud: String = optional("\"aws\""), HOST, [value_name = "NAME"];
        /// The address of the API, instead of --env and --cloud
        base_url: String = optional("\"https://api.example.com\""), HOST, [value_name = "URL"];
        /// Allow plain http to another machine
        ///
        /// Without it, the credentials are only sent over https, or over http to this machine.
        allow_http: bool = required("false"), API, [value_parser = switch, value_name = "BOOL"];
        /// Certificates (PEM) to trust besides the system's
        ///
        /// Companies whose proxy inspects TLS need this.
        ca_cert: PathBuf = optional("\"/etc/ssl/company.pem\""), API, [value_name = "FILE"];
        /// The client id of the API credentials; or set SIGMA_CLIENT_ID
        client_id: String = optional("\"\""), API, [value_name = "ID"];
        /// The client secret; better set SIGMA_CLIENT_SECRET
        ///
        /// Other users of this machine can see the flag in the list of processes.
        client_secret: SecretString = optional("\"\""), API, [value_parser = secret, value_name = "SECRET"];
        /// A command that prints the client secret
        ///
        /// For a password manager: op read op://vault/sigma/secret.
        client_secret_command: String = optional("\"pass show sigma\""), API, [value_name = "COMMAND"];
        /// A file that holds the client secret, and that only you can read
        client_secret_file: PathBuf = optional("\"/run/secrets/sigma\""), API, [value_name = "FILE"];
    }
    "What to do": {
        /// The CSV, as in the argument; - is standard input
        csv: PathBuf = optional("\"members.csv\""), INPUT, [value_name = "FILE"];
        /// The delimiter of the CSV: one character, or tab
        ///
        /// Without it, the delimiter is found from the header.
        #[serde(deserialize_with = "parsed")]
        delimiter: Delimiter = optional("\";\""), CSV, [value_name = "CHAR"];
        /// The encoding of the CSV, if it is neither UTF-8 nor UTF-16
        ///
        /// A label such as windows-1252, macintosh, shift_jis or gbk.
        encoding: EncodingName = optional("\"windows-1252\""), CSV, [value_name = "NAME"];
        /// Ignore a column (repeatable)
        ignore_column: Vec<String> = required("[]"), CSV, [value_name = "NAME"];
        /// Ignore all columns that the tool does not know
        ignore_unknown_columns: bool = required("false"), CSV, [value_parser = switch, value_name = "BOOL"];
        /// Read a column under another name: "Their Name=Email" (repeatable)
        map: Vec<ColumnName> = required("[]"), CSV, [value_name = "THEIRS=OURS"];
        /// Use only the first N rows
        limit: u32 = optional("100"), NEW_RUNS, [value_name = "N"];
        /// Change nothing: show what would be changed
        dry_run: bool = required("false"), NEW_RUNS, [short = 'n', value_parser = switch, value_name = "BOOL"];
        /// Save a dry run as a plan, for `apply`
        save_plan: PathBuf = optional("\"plan.jsonl\""), RUNS, [value_name = "FILE"];
        /// End a dry run that found something to change, and nothing wrong, with 6
        detailed_exitcode: bool = required("false"), NEW_RUNS, [value_parser = switch, value_name = "BOOL"];
        /// Do not ask before the first change
        yes: bool = required("false"), ASKING, [short = 'y', value_parser = switch, value_name = "BOOL"];
        /// Write over a file that exists; apply a plan whose CSV has changed
        ///
        /// A saved plan, an export or a profile is not replaced without it.
        force: bool = required("false"), WRITING, [value_parser = switch, value_name = "BOOL"];
        /// Resume an unfinished run of the same input, or start one
        ///
        /// A run of the same input, host and organization below `runs` is resumed if it has rows left. If it is complete, this
        /// is said, nothing is sent, and the exit code is that run's. So one line serves in a scheduler.
        auto_resume: bool = required("false"), INPUT, [value_parser = switch, value_name = "BOOL"];
        /// Do not start if any row is invalid
        strict: bool = required("false"), NEW_RUNS, [value_parser = switch, value_name = "BOOL"];
        /// Send all values, even those that a member has already
        send_unchanged: bool = required("false"), INPUT, [value_parser = switch, value_name = "BOOL"];
        /// How to find members: auto, directory or each
        ///
        /// `directory` lists the organization once, `each` looks up one email at a time, and `auto` does what needs
        /// fewer requests.
        lookup: LookupMode = required("\"auto\""), RUNS, [value_enum, hide_possible_values = true, value_name = "MODE"];
    }
    "Pace": {
        /// The number of requests in flight
        ///
        /// The tool uses fewer when more would only add latency or cause 429s.
        concurrency: usize = required("32"), RUNS, [value_name = "N"];
        /// Requests a second: auto, at most N, or 0 for no ceiling
        ///
        /// `auto` starts gently, finds the API's rate limit, and stays just below it. A number is a ceiling above the
        /// same search. 0 means no ceiling and no gentle start.
        #[serde(deserialize_with = "parsed")]
        rate: Rate = required("\"auto\""), API, [value_name = "N|auto"];
        /// The share of the API's rate limit to use
        ///
        /// The rest is left to other clients of your organization.
        #[serde(deserialize_with = "parsed")]
        max_capacity: Share = required("\"100%\""), API, [value_name = "N%"];
        /// Tries after the first
        retries: u32 = required("5"), API, [value_name = "N"];
        /// The time limit of one request
        #[serde(deserialize_with = "parsed")]
        timeout: Span = required("\"30s\""), API, [value_name = "DURATION"];
        /// How long an outage of the API is waited for
        ///
        /// While the API is unreachable for everybody, all requests wait and no tries are used up. After this time the run
        /// stops with exit code 3, and `resume` continues it.
        #[serde(deserialize_with = "parsed")]
        outage_limit: Span = required("\"10m\""), API, [value_name = "DURATION"];
    }
    "Safety": {
        /// Stop at the first update that fails
        abort_on_update_fail: bool = required("false"), RUNS, [value_parser = switch, value_name = "BOOL"];
        /// Stop at N failed rows, or at a share of the rows
        ///
        /// A share (5%) counts from the 100th row on.
        #[serde(deserialize_with = "parsed")]
        max_failures: Threshold = optional("\"5%\""), RUNS, [value_name = "N|N%"];
        /// Stop after this time; `resume` continues the run
        #[serde(deserialize_with = "parsed")]
        deadline: Span = optional("\"4h\""), RUNS, [value_name = "DURATION"];
        /// Do not start if more members than this would change
        ///
        /// A number, or a share of the rows of a CSV.
        #[serde(deserialize_with = "parsed")]
        max_changes: Threshold = optional("\"10%\""), NEW_RUNS, [value_name = "N|N%"];
        /// Change N rows first, and verify them before the others
        canary: u32 = required("0"), RUNS, [value_name = "N"];
        /// A member that is never changed (repeatable)
        protected: Vec<String> = required("[]"), RUNS, [value_name = "EMAIL"];
        /// Allow archiving the user to whom the credentials belong
        ///
        /// Archiving that user revokes the credentials, and the run can't continue.
        allow_self: bool = required("false"), RUNS, [value_parser = switch, value_name = "BOOL"];
    }
    "Output": {
        /// The run directory [default: runs/TIME-CSV]
        run_dir: PathBuf = optional("\"runs/spring\""), NEW_RUNS, [value_name = "DIR"];
        /// The directory of the lock files
        ///
        /// By default it is sigma-bulk/locks in $XDG_STATE_HOME (~/.local/state; on Windows %LOCALAPPDATA%).
        lock_dir: PathBuf = optional("\"/var/lock/sigma-bulk\""), RUNS, [value_name = "DIR"];
        /// Print the summary as one JSON document
        json: bool = required("false"), ALL, [value_parser = switch, value_name = "BOOL"];
        /// Show the outcome and the changes of every row
        verbose: bool = required("false"), RUNS, [short = 'v', value_parser = switch, value_name = "BOOL"];
        /// Show nothing, unless the run ends with another code than 0
        ///
        /// Then a short summary goes to standard error, so that a scheduler only mails when something is wrong.
        quiet: bool = required("false"), API, [short = 'q', value_parser = switch, value_name = "BOOL"];
        /// Show no progress
        no_progress: bool = required("false"), API, [value_parser = switch, value_name = "BOOL"];
        /// Write a JSON line for each thing that happens; - is standard output
        ///
        /// For programs that wrap this one. With -, standard output has nothing else.
        events: PathBuf = optional("\"events.jsonl\""), RUNS, [value_name = "FILE"];
        /// Run a command at the end, with summary.json on its standard input
        ///
        /// It may take a minute. If it fails, that is said, and the run is not affected.
        on_finish: String = optional("\"mail -s sigma-bulk admin@example.com\""), RUNS, [value_name = "COMMAND"];
        /// Post the summary to this address at the end
        ///
        /// It has a field `text` for chat tools. The address is a secret, and is never shown.
        notify_url: SecretString = optional("\"\""), RUNS, [value_parser = secret, value_name = "URL"];
        /// When to notify: always, change or failure
        ///
        /// `change` compares with the last run of the same profile and input name.
        notify_on: NotifyOn = required("\"always\""), RUNS, [value_enum, hide_possible_values = true, value_name = "WHEN"];
        /// Write metrics for Prometheus at the end
        metrics_file: PathBuf = optional("\"/var/lib/node_exporter/sigma-bulk.prom\""), RUNS, [value_name = "FILE"];
        /// Colours: auto, always or never
        ///
        /// `auto` uses colours on a terminal, unless NO_COLOR is set.
        color: ColorMode = required("\"auto\""), ALL, [value_enum, hide_possible_values = true, value_name = "WHEN"];
        /// The level of the log: off, error, warn, info, debug or trace
        log_level: String = required("\"warn\""), ALL, [value_name = "LEVEL"];
        /// The format of the log: text or json
        log_format: LogFormat = required("\"text\""), ALL, [value_enum, hide_possible_values = true, value_name = "FORMAT"];
        /// Write the log to a file instead of standard error
        log_file: PathBuf = optional("\"sigma-bulk.log\""), ALL, [value_name = "FILE"];
    }
}

/// Returns the arguments of a command with this name: flags without a value mean true, and its help lists only the flags
/// that it takes.
pub(crate) fn with_scope(command: clap::Command, name: CommandName) -> clap::Command {
    command.mut_args(|arg| {
        let declared =
            (DECLARATIONS.iter()).find(|declared| declared.field == arg.get_id().as_str());
        let Some(declared) = declared else { return arg };
        let is_switch = (arg.get_value_names())
            .is_some_and(|names| names.first().is_some_and(|name| name == "BOOL"));
        let arg = if is_switch {
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .hide_possible_values(true)
        } else {
            arg
        };
        let help = arg.get_long_help().or_else(|| arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        let default = if declared.has_default && declared.example != "[]" {
            format!("[default: {}] ", declared.example.trim_matches('"'))
        } else {
            String::new()
        };
        let variable = super::environment::variable(declared.field);
        arg.long_help(format!("{help}\n\n{default}[env: {variable}]"))
            .hide(declared.scope.listed & name.bit() == 0)
    })
}

/// Returns the first flag that a command refuses.
pub(crate) fn first_refused(flags: &Layer, name: CommandName) -> Option<String> {
    let refused = |key: &String| {
        (DECLARATIONS.iter())
            .any(|declared| declared.key() == *key && declared.scope.refused & name.bit() != 0)
    };
    flags.names_set().into_iter().find(refused)
}
