//! Authentication: the accepted credentials and the issued tokens. This module does no I/O and takes the
//! time as an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Config;

/// The accepted credentials and the issued tokens.
pub(super) struct Access {
    client_id: Option<String>,
    client_secret: Option<String>,
    lifetime: Duration,
    /// The tokens and their expiry times.
    tokens: HashMap<Box<str>, Instant>,
}

impl Access {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            lifetime: config.token_lifetime,
            tokens: HashMap::new(),
        }
    }

    /// Returns whether the credentials are accepted. Where none are configured, any non-empty value is.
    pub(super) fn knows(&self, client_id: &str, client_secret: &str) -> bool {
        let fits = |wanted: &Option<String>, given: &str| match wanted {
            Some(wanted) => wanted == given,
            None => !given.is_empty(),
        };
        fits(&self.client_id, client_id) && fits(&self.client_secret, client_secret)
    }

    /// Issues a new token and removes the expired ones.
    pub(super) fn grant(&mut self, now: Instant) -> String {
        self.tokens.retain(|_, end| *end > now);
        let (high, low) = (fastrand::u64(..), fastrand::u64(..));
        let token = format!("sandbox.{high:016x}{low:016x}");
        if let Some(end) = now.checked_add(self.lifetime) {
            self.tokens.insert(token.as_str().into(), end);
        }
        token
    }

    /// Returns whether the value of an `Authorization` header holds a valid token.
    pub(super) fn admits(&self, authorization: &str, now: Instant) -> bool {
        (authorization.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| self.tokens.get(token.trim()))
            .is_some_and(|end| *end > now)
    }

    /// Revokes all tokens.
    pub(super) fn revoke(&mut self) {
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_for_its_lifetime() {
        let mut access = Access::new(&Config {
            token_lifetime: Duration::from_secs(60),
            ..Config::default()
        });
        let start = Instant::now();
        let header = format!("bearer {}", access.grant(start));
        assert!(access.admits(&header, start + Duration::from_secs(59)));
        assert!(!access.admits(&header, start + Duration::from_secs(60)));
        assert!(!access.admits("Bearer other", start));
        access.revoke();
        assert!(!access.admits(&header, start));
    }

    #[test]
    fn only_the_configured_credentials_are_accepted() {
        let open = Access::new(&Config::default());
        assert!(open.knows("any", "thing") && !open.knows("any", ""));
        let closed = Access::new(&Config {
            client_id: Some("id".into()),
            client_secret: Some("secret".into()),
            ..Config::default()
        });
        assert!(closed.knows("id", "secret") && !closed.knows("id", "other"));
    }
}
