//! What every row must keep to beyond the syntax of the file: rows must not contradict each other, account types must
//! exist, protected members stay as they are, and the credentials' own user is not archived.

use std::collections::{HashMap, HashSet};

use crate::input::Row;
use crate::model::{Change, Field, Member, Value, did_you_mean, fold, quoted};

const PROTECTED: &str = "this member is protected by the configuration (protected)";

/// The rules of one run.
#[derive(Debug, Default)]
pub struct Rules {
    /// The organization's account types by folded name, each with its spellings; `None` if they are not known.
    types: Option<HashMap<String, Vec<String>>>,
    /// The folded emails of protected members.
    protected: HashSet<String>,
    /// The id of the user to whom the credentials belong, unless that user may be archived.
    own_id: Option<String>,
    /// Rows that can't be sent because of other rows, by row number.
    row_problems: HashMap<u32, Box<str>>,
}

impl Rules {
    /// Returns rules that protect the members with these emails, and that keep the user `own_id` from being archived.
    #[must_use]
    pub fn new(protected: &[String], own_id: Option<String>) -> Self {
        Self {
            types: None,
            protected: protected
                .iter()
                .map(|email| fold(email.trim()).into_owned())
                .collect(),
            own_id,
            row_problems: HashMap::new(),
        }
    }

    /// Adds rows that can't be sent, by number, each with the reason.
    pub fn add_row_problems(&mut self, problems: impl IntoIterator<Item = (u32, Box<str>)>) {
        self.row_problems.extend(problems);
    }

    /// Sets the account types that exist.
    pub fn set_types(&mut self, names: Vec<String>) {
        let mut types: HashMap<String, Vec<String>> = HashMap::new();
        for name in names {
            let spellings = types.entry(fold(&name).into_owned()).or_default();
            if !spellings.contains(&name) {
                spellings.push(name);
            }
        }
        self.types = Some(types);
    }

    /// Returns the organization's spelling of an account type that a row may spell in another case.
    #[must_use]
    pub fn type_as_listed(&self, name: &str) -> Option<&str> {
        match self.types.as_ref()?.get(&*fold(name))?.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Returns what is wrong with a row, as far as that is known before the member is looked up.
    #[must_use]
    pub fn row_problem(&self, row: &Row) -> Option<Box<str>> {
        if let Some(problem) = self.row_problems.get(&row.number) {
            return Some(problem.clone());
        }
        self.protected
            .contains(&*fold(&row.email))
            .then(|| PROTECTED.into())
    }

    /// Returns what is wrong with making these changes to this member.
    #[must_use]
    pub fn change_problem(&self, member: &Member, changes: &[Change]) -> Option<Box<str>> {
        if self.protected.contains(&*fold(member.email())) {
            return Some(PROTECTED.into());
        }
        // A member may keep a type that no longer exists; only a change to it is refused.
        let new_type = changes
            .iter()
            .find(|change| change.field == Field::MemberType)
            .and_then(|change| change.after.as_text());
        if let Some(problem) = new_type.and_then(|name| self.type_problem(name)) {
            return Some(problem);
        }
        let archives = changes
            .iter()
            .any(|change| change.field.archives() && change.after == Value::Flag(true));
        (archives && self.own_id.as_deref() == Some(&*member.id)).then(|| {
            "the credentials belong to this user, and archiving it would revoke them; if that is intended, add --allow-self".into()
        })
    }

    fn type_problem(&self, name: &str) -> Option<Box<str>> {
        let types = self.types.as_ref()?;
        if types.contains_key(&*fold(name)) {
            return None;
        }
        let mut names: Vec<&str> = types.values().flatten().map(String::as_str).collect();
        names.sort_unstable();
        let near = did_you_mean(name, names.iter().copied());
        let (name, names) = (quoted(name), names.join(", "));
        Some(
            format!("Member Type {name} is not in use in this organization{near}; it has {names}")
                .into(),
        )
    }
}
