//! The addresses of Sigma's API, by cloud and environment.
//!
//! The production hosts are from the `servers` of Sigma's `OpenAPI` description. The hosts of staging and
//! `dev` are from its public sample scripts.

use crate::model::{did_you_mean, quoted};

/// The environments of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Environment {
    /// Production.
    #[value(alias = "prod")]
    #[serde(alias = "prod")]
    Production,
    /// Sigma's staging.
    #[value(alias = "stage")]
    Staging,
    /// `http://127.0.0.1:8081`, for every cloud.
    Dev,
    /// A simulated API, started inside the tool.
    Sandbox,
}

/// The base URL of `--env dev`.
pub(crate) const DEV_URL: &str = "http://127.0.0.1:8081";

/// The name of each cloud, its production URL, and its staging URL if there is one.
pub(crate) const CLOUDS: [(&str, &str, Option<&str>); 13] = [
    (
        "aws",
        "https://aws-api.sigmacomputing.com",
        Some("https://staging-aws-api.sigmacomputing.io"),
    ),
    (
        "aws-us-east",
        "https://api.us-a.aws.sigmacomputing.com",
        None,
    ),
    ("aws-ca", "https://api.ca.aws.sigmacomputing.com", None),
    ("aws-eu", "https://api.eu.aws.sigmacomputing.com", None),
    ("aws-au", "https://api.au.aws.sigmacomputing.com", None),
    ("aws-uk", "https://api.uk.aws.sigmacomputing.com", None),
    (
        "gcp",
        "https://api.sigmacomputing.com",
        Some("https://api.staging.sigmacomputing.io"),
    ),
    ("gcp-sa", "https://api.sa.gcp.sigmacomputing.com", None),
    (
        "azure",
        "https://api.us.azure.sigmacomputing.com",
        Some("https://api.staging.us.azure.sigmacomputing.io"),
    ),
    ("azure-eu", "https://api.eu.azure.sigmacomputing.com", None),
    ("azure-ca", "https://api.ca.azure.sigmacomputing.com", None),
    ("azure-uk", "https://api.uk.azure.sigmacomputing.com", None),
    ("azure-au", "https://api.au.azure.sigmacomputing.com", None),
];

/// The cloud has no such API, or the URL is not usable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error(
        "the cloud is not set; give --cloud (your organization's, one of {}), or --base-url",
        names(false)
    )]
    NoCloud,
    #[error(
        "--cloud {} is unknown{}: it is one of {}",
        quoted(cloud),
        near(cloud),
        names(false)
    )]
    UnknownCloud { cloud: String },
    #[error(
        "--cloud \"{cloud}\" has no staging that is known: it is there for {}; or give --base-url",
        names(true)
    )]
    NoStaging { cloud: String },
    #[error("--base-url \"{0}\" is no URL: write it as https://host")]
    NotUrl(String),
    #[error(
        "--base-url \"{0}\" would send the credentials unencrypted: use https, or --allow-http if that is intended"
    )]
    PlainHttp(String),
    #[error(
        "--base-url holds a user or password: give the credentials by SIGMA_CLIENT_ID and SIGMA_CLIENT_SECRET"
    )]
    Credentials,
}

impl Environment {
    /// Returns the name on the command line and in the configuration.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Staging => "staging",
            Self::Dev => "dev",
            Self::Sandbox => "sandbox",
        }
    }
}

/// Returns the name of a cloud with what Sigma calls it.
pub(crate) fn describe_cloud(name: &str) -> String {
    let (cloud, region) = name.split_once('-').unwrap_or((name, ""));
    let cloud = match cloud {
        "aws" => "AWS",
        "gcp" => "Google Cloud",
        _ => "Azure",
    };
    let region = match (name, region) {
        ("aws", _) => "US West",
        ("aws-us-east", _) => "US East",
        (_, "") => "US",
        (_, "ca") => "Canada",
        (_, "eu") => "Europe",
        (_, "au") => "Australia",
        (_, "uk") => "United Kingdom",
        (_, "sa") => "Saudi Arabia",
        (_, other) => other,
    };
    format!("{name:12} {cloud}, {region}")
}

fn near(cloud: &str) -> String {
    did_you_mean(cloud, CLOUDS.iter().map(|(name, _, _)| *name))
}

fn names(staging: bool) -> String {
    CLOUDS
        .iter()
        .filter(|(_, _, stage)| !staging || stage.is_some())
        .map(|(name, _, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the base URL of a cloud in an environment. The sandbox's URL is known only once the sandbox runs;
/// do not ask for it here.
///
/// # Errors
/// Returns an error if there is none.
pub(crate) fn base_url(
    environment: Environment,
    cloud: Option<&str>,
) -> Result<&'static str, HostError> {
    if matches!(environment, Environment::Dev | Environment::Sandbox) {
        return Ok(DEV_URL);
    }
    let cloud = cloud.ok_or(HostError::NoCloud)?;
    let (_, production, staging) = CLOUDS
        .iter()
        .find(|(name, _, _)| name.eq_ignore_ascii_case(cloud))
        .ok_or_else(|| HostError::UnknownCloud {
            cloud: cloud.to_owned(),
        })?;
    match environment {
        Environment::Staging => staging.ok_or_else(|| HostError::NoStaging {
            cloud: cloud.to_owned(),
        }),
        _ => Ok(production),
    }
}

/// Returns whether a URL points to this machine. Plain HTTP is allowed there, and no proxy is used.
pub(crate) fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Returns a name for the server at a URL that does not depend on how the URL is written: all names of this machine are
/// one, and so are a missing port and the scheme's own.
pub(crate) fn server_name(url: &str) -> String {
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return url.to_owned();
    };
    let host = if is_loopback(&parsed) {
        "this machine"
    } else {
        parsed.host_str().unwrap_or_default().trim_end_matches('.')
    };
    let port = parsed.port_or_known_default().unwrap_or_default();
    let path = parsed.path().trim_end_matches('/');
    format!("{host}:{port}{path}")
}

/// Returns a URL that is safe to show, without user name and password.
pub(crate) fn without_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => url.to_owned(),
    }
}

/// Validates a base URL, and returns it without a trailing slash.
///
/// # Errors
/// Returns an error if it is not an http(s) URL, or is plain HTTP to another machine without `allow_http`.
pub(crate) fn check_url(text: &str, allow_http: bool) -> Result<String, HostError> {
    let url = reqwest::Url::parse(text).map_err(|_| HostError::NotUrl(without_user(text)))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(HostError::Credentials);
    }
    let loopback = is_loopback(&url);
    match url.scheme() {
        "https" => {}
        "http" if loopback || allow_http => {}
        "http" => return Err(HostError::PlainHttp(text.to_owned())),
        _ => return Err(HostError::NotUrl(text.to_owned())),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(HostError::NotUrl(text.to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_cloud_has_its_hosts() {
        let mut text = String::new();
        for (name, _, _) in CLOUDS {
            for environment in [
                Environment::Production,
                Environment::Staging,
                Environment::Dev,
            ] {
                let url = base_url(environment, Some(name));
                if let Ok(url) = url {
                    assert_eq!(check_url(url, false).as_deref(), Ok(url));
                }
                let _ = writeln!(text, "{name} {environment:?}: {url:?}");
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn one_server_has_one_name() {
        for same in [
            &[
                "http://localhost:8081",
                "http://127.0.0.1:8081/",
                "http://[::1]:8081",
            ][..],
            &[
                "https://API.example.com",
                "https://api.example.com:443/",
                "https://api.example.com.",
            ],
        ] {
            let names: std::collections::HashSet<_> =
                same.iter().map(|url| server_name(url)).collect();
            assert_eq!(names.len(), 1, "{names:?}");
        }
        assert_ne!(
            server_name("http://localhost:1"),
            server_name("http://localhost:2")
        );
        assert_ne!(server_name("https://h/a"), server_name("https://h/b"));
    }

    #[test]
    fn plain_http_needs_loopback_or_allow_http() {
        for good in [
            "https://a.b/",
            "http://localhost:1",
            "http://127.0.0.1:8081",
            "http://[::1]:2",
        ] {
            assert!(check_url(good, false).is_ok(), "{good}");
        }
        for bad in ["http://api.example.com", "http://127.0.0.1.example.com"] {
            assert_eq!(
                check_url(bad, false),
                Err(HostError::PlainHttp(bad.to_owned()))
            );
            assert!(check_url(bad, true).is_ok());
        }
        assert_eq!(
            check_url("ftp://a", true),
            Err(HostError::NotUrl("ftp://a".to_owned()))
        );
        assert_eq!(
            check_url("https://me:pw@a", true),
            Err(HostError::Credentials)
        );
    }
}
