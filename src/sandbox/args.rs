//! The sandbox's command-line flags and their conversion to a [`Config`]. This module does no I/O.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::{Ban, Config, Faults, Population, RateLimit, RateLimitKind, RetryAfter, SandboxError};

/// The flags of the sandbox: its organization, its limits and its faults.
#[derive(Args, Clone, Debug)]
pub struct SandboxArgs {
    /// The port on 127.0.0.1; 0 selects a free one
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub port: u16,

    /// Generate an organization of N members
    #[arg(long, value_name = "N", conflicts_with = "members_csv")]
    pub members: Option<usize>,

    /// Read the members from a CSV; only the column Email is needed
    ///
    /// Its columns are Email, First Name, Last Name, Member Type, isArchived, isInactive, userKind and Member ID.
    #[arg(long = "csv", id = "members_csv", value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// The latency of every answer, such as 50ms
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub latency: Duration,

    /// The largest random addition to the latency
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub latency_jitter: Duration,

    /// Answer 429 above N requests a second
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate_limit: Option<f64>,

    /// The burst that the rate limit allows [default: one second's requests]
    #[arg(long, value_name = "N", value_parser = rate, requires = "rate_limit")]
    pub burst: Option<f64>,

    /// Count the rate in fixed windows of this length instead
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        requires = "rate_limit",
        conflicts_with = "burst"
    )]
    pub window: Option<Duration>,

    /// The Retry-After header of a 429
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub retry_after: RetryAfterArg,

    /// Answer 429 to more than N requests in flight
    #[arg(long, value_name = "N")]
    pub max_concurrent: Option<usize>,

    /// The probability of a 503 before the update is applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub fail_before: f64,

    /// The probability of a 503 after the update was applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub fail_after: f64,

    /// The probability of no answer
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub hang: f64,

    /// The probability of a closed connection before the update is applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub close_before: f64,

    /// The probability of a closed connection after the update was applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub close_after: f64,

    /// The probability of a 502 with an HTML page
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub html: f64,

    /// The probability of the edge's challenge (403)
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub challenge: f64,

    /// The probability of a login page with 200
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub login: f64,

    /// The probability of an update that becomes visible only after 2 s
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub late: f64,

    /// How far reads of single members are behind
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub read_lag: Duration,

    /// How far listings are behind
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub listing_lag: Duration,

    /// Ban the client after N requests, for --ban-lasts (429 with error 1015)
    #[arg(long, value_name = "N")]
    pub ban_after: Option<u64>,

    /// How long a ban lasts; each request during it adds a second
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub ban_lasts: Duration,

    /// The probability of a 200 that is not JSON, after the update was applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub garbage: f64,

    /// The probability of a body that is cut off, after the update was applied
    #[arg(long, value_name = "P", value_parser = probability, default_value = "0")]
    pub truncate: f64,

    /// The seed of the faults: the same seed and requests give the same faults
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// The lifetime of a token
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub token_lifetime: Duration,

    /// Accept only these credentials, ID:SECRET; otherwise any
    #[arg(long, value_name = "ID:SECRET")]
    pub require_credentials: Option<String>,
}

/// The forms of Retry-After, as a flag's value.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum RetryAfterArg {
    /// Whole seconds
    Seconds,
    /// An HTTP date
    Date,
    /// No such header, as is often so in practice
    #[default]
    None,
}

impl SandboxArgs {
    /// Returns the address to listen on, which is always on the loopback interface.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the configuration that the flags describe.
    ///
    /// # Errors
    /// Returns an error if `--require-credentials` has no colon between the id and the secret.
    pub fn config(&self) -> Result<Config, SandboxError> {
        let population = match (&self.csv, self.members) {
            (Some(path), _) => Population::Csv(path.clone()),
            (None, Some(count)) => Population::Generated(count),
            (None, None) => Population::Builtin,
        };
        let (client_id, client_secret) = match &self.require_credentials {
            None => (None, None),
            Some(pair) => {
                // The message must not contain the pair, because it holds a secret.
                let (id, secret) = pair.split_once(':').ok_or_else(|| {
                    SandboxError::Usage("--require-credentials takes ID:SECRET".to_owned())
                })?;
                (Some(id.to_owned()), Some(secret.to_owned()))
            }
        };
        Ok(Config {
            population,
            faults: self.faults(),
            client_id,
            client_secret,
            token_lifetime: self.token_lifetime,
            ..Config::default()
        })
    }

    fn faults(&self) -> Faults {
        let rate_limit = self.rate_limit.map(|per_second| RateLimit {
            per_second,
            kind: match self.window {
                Some(window) => RateLimitKind::FixedWindow { window },
                None => RateLimitKind::TokenBucket {
                    burst: self.burst.unwrap_or(per_second),
                },
            },
            retry_after: match self.retry_after {
                RetryAfterArg::Seconds => RetryAfter::Seconds,
                RetryAfterArg::Date => RetryAfter::HttpDate,
                RetryAfterArg::None => RetryAfter::None,
            },
        });
        Faults {
            seed: self.seed,
            latency: self.latency,
            latency_jitter: self.latency_jitter,
            rate_limit,
            max_concurrent: self.max_concurrent,
            fail_before: self.fail_before,
            close_before: self.close_before,
            hang: self.hang,
            html: self.html,
            challenge: self.challenge,
            login: self.login,
            late: self.late,
            read_lag: self.read_lag,
            listing_lag: self.listing_lag,
            ban: self.ban_after.map(|after| Ban {
                after,
                lasts: self.ban_lasts,
                grows_by: Duration::from_secs(1),
            }),
            fail_after: self.fail_after,
            close_after: self.close_after,
            garbage: self.garbage,
            truncate: self.truncate,
            ..Faults::default()
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let signed: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(signed).map_err(|_| "a duration can't be negative".to_owned())
}

fn probability(text: &str) -> Result<f64, String> {
    (text.parse().ok())
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "a probability is a number from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    (text.parse().ok())
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "a rate is a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SandboxArgs,
    }

    fn parse(flags: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("sandbox").chain(flags.split_whitespace()))
    }

    #[test]
    fn flags_are_converted_to_a_config() -> Result<(), Box<dyn std::error::Error>> {
        let cli = parse(
            "--port 0 --members 10 --latency 50ms --rate-limit 20 --window 2s \
             --retry-after date --hang 0.01 --require-credentials id:se:cret",
        );
        let args = cli?.args;
        let config = args.config()?;
        assert!(matches!(config.population, Population::Generated(10)));
        assert_eq!(config.client_secret.as_deref(), Some("se:cret"));
        assert_eq!(config.faults.latency, Duration::from_millis(50));
        let limit = RateLimit {
            per_second: 20.0,
            kind: RateLimitKind::FixedWindow {
                window: Duration::from_secs(2),
            },
            retry_after: RetryAfter::HttpDate,
        };
        assert_eq!(config.faults.rate_limit, Some(limit));
        Ok(())
    }

    #[test]
    fn invalid_flags_are_rejected() {
        for flags in [
            "--hang 1.5",
            "--latency -1s",
            "--burst 3",
            "--members 3 --csv f.csv",
            "--rate-limit 0",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
    }
}
