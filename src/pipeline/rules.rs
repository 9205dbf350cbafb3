//! What rows must keep to beyond the CSV's own rules: account types that the organization has, protected members,
//! and the credentials' own user.

use std::collections::{HashMap, HashSet};

use crate::change::{Change, Field, Member, Value, fold};
use crate::input::Row;

const PROTECTED: &str = "this member is protected by the configuration (protected)";

/// The rules of one run.
#[derive(Debug, Default)]
pub struct Rules {
    /// The organization's account types by their folded names; none if they are not known.
    types: Option<HashMap<String, Vec<String>>>,
    protected: HashSet<String>,
    /// The user to whom the credentials belong, unless it may be archived.
    own_id: Option<String>,
    /// Rows that were found to contradict others only when their members were known.
    problems: HashMap<u32, Box<str>>,
}

impl Rules {
    /// Members with these emails are left alone, and the user `own_id` is not archived.
    #[must_use]
    pub fn new(protected: &[String], own_id: Option<String>) -> Self {
        Self {
            types: None,
            protected: protected
                .iter()
                .map(|email| fold(email.trim()).into_owned())
                .collect(),
            own_id,
            problems: HashMap::new(),
        }
    }

    /// These rows can't be sent.
    pub fn add_problems(&mut self, problems: impl IntoIterator<Item = (u32, Box<str>)>) {
        self.problems.extend(problems);
    }

    /// Only these account types are there.
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

    /// The name under which the organization has an account type that a row spells in another case.
    #[must_use]
    pub fn type_as_listed(&self, name: &str) -> Option<&str> {
        match self.types.as_ref()?.get(&*fold(name))?.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What is wrong with a row, as far as it is known before its member is.
    #[must_use]
    pub fn problem(&self, row: &Row) -> Option<Box<str>> {
        if let Some(problem) = self.problems.get(&row.number) {
            return Some(problem.clone());
        }
        self.protected
            .contains(&*fold(&row.email))
            .then(|| PROTECTED.into())
    }

    /// What is wrong with an account type. A member may have one that is not in use any more, and keep it.
    #[must_use]
    pub fn type_problem(&self, wanted: &str) -> Option<Box<str>> {
        let types = self.types.as_ref()?;
        if types.contains_key(&*fold(wanted)) {
            return None;
        }
        let mut names: Vec<&str> = types.values().flatten().map(String::as_str).collect();
        names.sort_unstable();
        let names = names.join(", ");
        Some(
            format!("Member Type \"{wanted}\" is not in use in this organization; it has {names}")
                .into(),
        )
    }

    /// What is wrong with changing this member so.
    #[must_use]
    pub fn objection(&self, member: &Member, changes: &[Change]) -> Option<Box<str>> {
        if self.protected.contains(&*fold(member.email())) {
            return Some(PROTECTED.into());
        }
        let new_type = changes
            .iter()
            .find(|change| change.field == Field::MemberType)
            .and_then(|change| change.after.as_text());
        if let Some(problem) = new_type.and_then(|wanted| self.type_problem(wanted)) {
            return Some(problem);
        }
        let archives = changes.iter().any(|change| {
            matches!(change.field, Field::IsArchived | Field::IsInactive)
                && change.after == Value::Flag(true)
        });
        (archives && self.own_id.as_deref() == Some(&*member.id)).then(|| {
            "this is the user to whom the credentials belong, and archiving it would end them; if that is meant, give --allow-self".into()
        })
    }
}
