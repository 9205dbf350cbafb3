//! The organization: its members and the API's rules for them. This module has no HTTP, no clock and no faults.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::member::Patch;
use super::population::{self, assigned_folder, assigned_id, made_at};
use super::refusal::Refusal;
use super::{Config, Member, SandboxError};

/// A member as the API returns it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) member: Member,
    /// The values before the last change, and when that was made. Readers that lag still see them.
    pub(super) before: Option<(Box<Member>, Instant)>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// Selects the members that a listing returns.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ListFilter<'a> {
    /// Matches only this email address.
    pub(super) email: Option<&'a str>,
    /// Matches this text in the email address or the name, ignoring case.
    pub(super) search: Option<&'a str>,
    pub(super) archived: bool,
    pub(super) inactive: bool,
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct ListPage<'a> {
    pub(super) entries: Vec<&'a Entry>,
    /// The position at which the next page starts.
    pub(super) next: Option<usize>,
}

/// The members and the API's rules for them.
pub(super) struct Organization {
    entries: Vec<Entry>,
    /// Positions by member id.
    by_id: HashMap<String, usize>,
    /// Positions by case-folded email. Members share a key if the population has emails that differ only in case.
    by_email: HashMap<String, Vec<usize>>,
    /// The account types' names, in their original case.
    account_types: Vec<String>,
    /// The number of members that are neither archived nor inactive, only archived, only inactive, and both.
    census: [usize; 4],
}

impl Entry {
    /// Returns the member as somebody sees it who learns of changes after `lag`.
    pub(super) fn seen_after(&self, lag: Duration) -> &Member {
        match &self.before {
            Some((member, at)) if *at > Instant::now() || at.elapsed() < lag => member,
            _ => &self.member,
        }
    }

    /// Hides the last change for `by`, from everybody.
    pub(super) fn hide(&mut self, by: Duration) {
        if let Some((_, at)) = &mut self.before {
            *at += by;
        }
    }
}

impl Organization {
    pub(super) fn new(config: &Config) -> Result<Self, SandboxError> {
        let mut organization = Self {
            entries: Vec::new(),
            by_id: HashMap::new(),
            by_email: HashMap::new(),
            account_types: config.account_types.clone(),
            census: [0; 4],
        };
        population::members(&config.population, &config.account_types, |member| {
            organization.add(member).map(drop)
        })?;
        Ok(organization)
    }

    /// Adds a new member. Two members can't have the same id or exactly the same email address. Addresses that differ
    /// only in case are accepted, because tests need them.
    pub(super) fn add(&mut self, member: Member) -> Result<usize, SandboxError> {
        let position = self.entries.len();
        let member = self.completed(member, position);
        if self.by_id.contains_key(&member.member_id) {
            return Err(SandboxError::DuplicateId(member.member_id));
        }
        if self.by_exact_email(&member.email).is_some() {
            return Err(SandboxError::DuplicateEmail(member.email));
        }
        let created_at = made_at(position);
        self.by_id.insert(member.member_id.clone(), position);
        self.index_email(&member.email, position);
        self.count(&member, true);
        self.entries.push(Entry {
            member,
            before: None,
            created_at,
            updated_at: created_at,
        });
        Ok(position)
    }

    /// Replaces a member's values without checking the API's rules. The id is kept.
    pub(super) fn put(&mut self, position: usize, member: Member, now: Timestamp) {
        let mut member = self.completed(member, position);
        let Some(entry) = self.entries.get_mut(position) else {
            return;
        };
        member.member_id.clone_from(&entry.member.member_id);
        entry.updated_at = now;
        let old = std::mem::replace(&mut entry.member, member.clone());
        entry.before = Some((Box::new(old.clone()), Instant::now()));
        if fold(&old.email) != fold(&member.email) {
            if let Some(positions) = self.by_email.get_mut(&*fold(&old.email)) {
                positions.retain(|other| *other != position);
            }
            self.index_email(&member.email, position);
        }
        self.count(&old, false);
        self.count(&member, true);
    }

    /// Applies a PATCH request. The whole request is validated before anything changes.
    pub(super) fn update(
        &mut self,
        id: &str,
        patch: &Patch<'_>,
        now: Timestamp,
    ) -> Result<usize, Refusal> {
        let position = self.by_id(id).ok_or(Refusal::UnknownMember)?;
        if let Some(owner) = patch.new_owner_id
            && self.by_id(owner).is_none()
        {
            return Err(Refusal::invalid("\"newOwnerId\" is not a member"));
        }
        let member_type = match patch.member_type {
            Some(name) => Some(self.account_type(name).ok_or(Refusal::UnknownType)?),
            None => None,
        };
        if let Some(email) = patch.email
            && (self.sharing(&fold(email))).any(|other| other != position)
        {
            return Err(Refusal::Duplicate);
        }
        let entry = self.get(position).ok_or(Refusal::UnknownMember)?;
        let mut member = entry.member.clone();
        patch.apply(&mut member, member_type.as_deref());
        self.put(position, member, now);
        Ok(position)
    }

    /// Returns one page of the members that match the filter, in order of creation. Each page continues where the
    /// previous one stopped, so that a full listing visits each member once.
    pub(super) fn page(&self, filter: &ListFilter<'_>, from: usize, limit: usize) -> ListPage<'_> {
        let mut matching = self.matching(filter, from);
        let entries = matching
            .by_ref()
            .take(limit)
            .map(|(_, entry)| entry)
            .collect();
        let next = matching.next().map(|(position, _)| position);
        ListPage { entries, next }
    }

    /// Returns the number of members that match the filter. Without `email` and `search` it needs no scan.
    pub(super) fn total(&self, filter: &ListFilter<'_>) -> usize {
        if filter.email.is_some() || filter.search.is_some() {
            return self.matching(filter, 0).count();
        }
        let [active, archived, inactive, both] = self.census;
        active
            + if filter.archived { archived } else { 0 }
            + if filter.inactive { inactive } else { 0 }
            + if filter.archived && filter.inactive {
                both
            } else {
                0
            }
    }

    fn matching<'a>(
        &'a self,
        filter: &ListFilter<'_>,
        from: usize,
    ) -> impl Iterator<Item = (usize, &'a Entry)> {
        let ListFilter {
            archived, inactive, ..
        } = *filter;
        let search = filter.search.map(str::to_lowercase);
        // At most one member has an address. The rest of the filter still applies.
        let range = match filter.email.map(|email| self.by_exact_email(email)) {
            None => from..self.entries.len(),
            Some(Some(position)) if position >= from => position..position + 1,
            Some(_) => 0..0,
        };
        range
            .filter_map(|position| Some((position, self.entries.get(position)?)))
            .filter(move |(_, Entry { member, .. })| {
                (archived || !member.is_archived)
                    && (inactive || !member.is_inactive)
                    && search.as_deref().is_none_or(|text| mentions(member, text))
            })
    }

    /// Hides the last change of a member for `by`.
    pub(super) fn hide(&mut self, member_id: &str, by: Duration) {
        let position = self.by_id(member_id);
        if let Some(entry) = position.and_then(|position| self.entries.get_mut(position)) {
            entry.hide(by);
        }
    }

    pub(super) fn get(&self, position: usize) -> Option<&Entry> {
        self.entries.get(position)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.entries.iter().map(|entry| &entry.member)
    }

    pub(super) fn by_id(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// Returns the member with this email address, or else one whose address differs only in case.
    pub(super) fn by_email(&self, email: &str) -> Option<usize> {
        (self.by_exact_email(email)).or_else(|| self.sharing(&fold(email)).min())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Writes the members as a CSV that `Population::Csv` can read.
    pub(super) fn write_csv(&self, target: impl Write) -> csv::Result<()> {
        let mut writer = csv::Writer::from_writer(target);
        for member in self.members() {
            writer.serialize(member)?;
        }
        writer.flush()?;
        Ok(())
    }

    fn by_exact_email(&self, email: &str) -> Option<usize> {
        self.sharing(&fold(email))
            .find(|at| (self.get(*at)).is_some_and(|entry| entry.member.email == email))
    }

    /// Returns the members with this case-folded email address.
    fn sharing(&self, folded: &str) -> impl Iterator<Item = usize> {
        self.by_email.get(folded).into_iter().flatten().copied()
    }

    fn index_email(&mut self, email: &str, position: usize) {
        self.by_email
            .entry(fold(email).into_owned())
            .or_default()
            .push(position);
    }

    fn count(&mut self, member: &Member, is_added: bool) {
        let slot = usize::from(member.is_archived) + 2 * usize::from(member.is_inactive);
        if let Some(count) = self.census.get_mut(slot) {
            *count = if is_added {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
        }
    }

    /// Returns the account type with this name, ignoring case.
    fn account_type(&self, name: &str) -> Option<String> {
        let folded = fold(name);
        (self.account_types.iter())
            .find(|written| fold(written) == folded)
            .cloned()
    }

    /// Returns the member with the values that the API assigns where they are missing.
    fn completed(&self, mut member: Member, position: usize) -> Member {
        if member.member_type.is_empty() {
            let is_plain = |name: &&String| name.as_str() == "Viewer";
            let types = &self.account_types;
            let name = types.iter().find(is_plain).or_else(|| types.last());
            name.map_or("Viewer", String::as_str)
                .clone_into(&mut member.member_type);
        }
        if member.user_kind.is_empty() {
            "internal".clone_into(&mut member.user_kind);
        }
        if member.member_id.is_empty() {
            member.member_id = assigned_id(position);
        }
        if member.home_folder_id.is_empty() {
            member.home_folder_id = assigned_folder(position);
        }
        member
    }
}

fn mentions(member: &Member, lowercase: &str) -> bool {
    let name = format!("{} {}", member.first_name, member.last_name);
    fold(&member.email).contains(lowercase) || fold(&name).contains(lowercase)
}

/// Returns the case-folded text, which is equal for texts that differ only in case.
fn fold(text: &str) -> Cow<'_, str> {
    if text
        .chars()
        .any(|one| one.is_ascii_uppercase() || !one.is_ascii())
    {
        Cow::Owned(text.to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sandbox::{OWN_EMAIL, OWN_MEMBER_ID, Population};

    type TestResult = Result<(), SandboxError>;

    const TOM: &str = "tom.baker@example.com";

    fn organization(population: Population) -> Result<Organization, SandboxError> {
        Organization::new(&Config {
            population,
            ..Config::default()
        })
    }

    fn member(organization: &Organization, email: &str) -> Option<Member> {
        let entry = organization.get(organization.by_email(email)?)?;
        Some(entry.member.clone())
    }

    /// Applies a PATCH request to Tom.
    fn patch(organization: &mut Organization, body: &Value) -> Result<Member, Refusal> {
        let id = member(organization, TOM).unwrap_or_default().member_id;
        let patch = Patch::parse(body.as_object().ok_or(Refusal::UnknownEndpoint)?)?;
        let position = organization.update(&id, &patch, Timestamp::UNIX_EPOCH)?;
        (organization.get(position))
            .map(|entry| entry.member.clone())
            .ok_or(Refusal::UnknownMember)
    }

    #[test]
    fn builtin_organization_matches_its_documentation() -> TestResult {
        let organization = organization(Population::Builtin)?;
        let own = member(&organization, OWN_EMAIL).map(|own| own.member_id);
        assert_eq!(own.as_deref(), Some(OWN_MEMBER_ID));
        assert_eq!(organization.len(), 24);
        assert_eq!(organization.census, [21, 2, 1, 0]);
        Ok(())
    }

    #[test]
    fn patch_changes_only_the_fields_it_names() -> TestResult {
        let mut organization = organization(Population::Builtin)?;
        let expected = member(&organization, TOM).map(|before| Member {
            member_type: "Explorer".into(),
            email: "t.baker@example.com".into(),
            ..before
        });
        let body = json!({"memberType": "EXPLORER", "email": "t.baker@example.com"});
        assert_eq!(patch(&mut organization, &body).ok(), expected);
        assert_eq!(organization.by_email(TOM), None);
        assert_eq!(member(&organization, "T.Baker@example.com"), expected);
        Ok(())
    }

    #[test]
    fn rejected_patches_name_the_reason_and_change_nothing() -> TestResult {
        let mut organization = organization(Population::Builtin)?;
        let before = member(&organization, TOM);
        let invalid = |text: &str| Refusal::invalid(text);
        for (body, refusal) in [
            (
                json!({"nickname": "T"}),
                invalid("Unknown field \"nickname\""),
            ),
            (
                json!({"firstName": 1}),
                invalid("\"firstName\" must be a string"),
            ),
            (
                json!({"isArchived": "true"}),
                invalid("\"isArchived\" must be a boolean"),
            ),
            (
                json!({"newOwnerId": "nobody"}),
                invalid("\"newOwnerId\" is not a member"),
            ),
            (
                json!({"userKind": "robot"}),
                invalid("\"userKind\" must be internal, guest or embed"),
            ),
            (
                json!({"isArchived": false, "archiveDocuments": true}),
                invalid("\"archiveDocuments\" needs isArchived or isInactive to be true"),
            ),
            (
                json!({"firstName": "T", "memberType": "Root"}),
                Refusal::UnknownType,
            ),
            (json!({"email": "ADMIN@example.com"}), Refusal::Duplicate),
        ] {
            let answer = patch(&mut organization, &body);
            assert_eq!(answer, Err(refusal), "{body}");
        }
        assert_eq!(member(&organization, TOM), before);
        // A member may change the case of its own address.
        let renamed = patch(&mut organization, &json!({"email": TOM}));
        assert_eq!(renamed.map(|tom| tom.email).as_deref(), Ok(TOM));
        Ok(())
    }

    #[test]
    fn paging_returns_every_matching_member_once() -> TestResult {
        let organization = organization(Population::Generated(1000))?;
        for (archived, inactive) in [(false, false), (true, false), (false, true), (true, true)] {
            let filter = ListFilter {
                archived,
                inactive,
                ..ListFilter::default()
            };
            let (mut seen, mut from) = (Vec::new(), Some(0));
            while let Some(start) = from {
                let page = organization.page(&filter, start, 7);
                assert!(!page.entries.is_empty());
                seen.extend(page.entries.iter().map(|entry| &entry.member.email));
                from = page.next;
            }
            assert_eq!(seen.len(), organization.total(&filter));
            assert!(seen.is_sorted());
            assert_eq!(seen.len() == 1000, archived && inactive);
        }
        Ok(())
    }

    #[test]
    fn email_filter_is_case_sensitive_and_search_is_not() -> TestResult {
        let organization = organization(Population::Builtin)?;
        let find = |email, search| {
            let filter = ListFilter {
                email,
                search,
                ..ListFilter::default()
            };
            let page = organization.page(&filter, 0, 50);
            assert_eq!(page.entries.len(), organization.total(&filter));
            page.entries.len()
        };
        assert_eq!(find(Some("Tom.Baker@Example.com"), None), 1);
        assert_eq!(find(Some(TOM), None), 0);
        assert_eq!(find(Some("nils.aalto@example.com"), None), 0, "archived");
        assert_eq!(find(None, Some("SMITH")), 2);
        assert_eq!(find(None, Some("ÅNGSTRÖM")), 1);
        Ok(())
    }

    #[test]
    fn members_survive_a_csv_round_trip() -> TestResult {
        let first = organization(Population::Builtin)?;
        let mut written = Vec::new();
        first.write_csv(&mut written)?;
        let mut second = organization(Population::Members(Vec::new()))?;
        population::read_csv(written.as_slice(), |member| second.add(member).map(drop))?;
        let all = |of: &Organization| of.members().cloned().collect::<Vec<_>>();
        assert_eq!(all(&first), all(&second));
        Ok(())
    }

    #[test]
    fn emails_may_differ_in_case_but_not_be_identical() -> TestResult {
        let mut organization = organization(Population::Members(vec![
            Member::new("a@example.com"),
            Member::new("A@example.com"),
        ]))?;
        assert_eq!(organization.by_email("A@example.com"), Some(1));
        assert!(organization.add(Member::new("a@example.com")).is_err());
        Ok(())
    }
}
