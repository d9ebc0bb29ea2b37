//! The node's policies: read from a directory, and replaced as a whole.
//!
//! ```text
//! no *.cedar file   ──▶ at the start: the built-in roles; later, where there were some: what held goes on
//! all are right     ──▶ they hold, instead of the built-in ones
//! one is wrong      ──▶ at the start: an error; later: what held goes on
//! ```
//!
//! The built-in roles come at a start only. A directory that is empty for an instant, as when it is unmounted or
//! written anew, must not give away what its files keep.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aurae_authz::{Contract, ContractError, Policies, PolicyErrors};

/// The ending of a file with policies.
const ENDING: &str = "cedar";
/// Files in a directory, at most: a directory of something else is told as such.
const MAX_FILES: usize = 256;
/// The bytes of all files, at most: some ten thousand policies.
const MAX_BYTES: u64 = 4 << 20;

/// Policies cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A directory or a file cannot be read.
    #[error("failed to read {path}", path = .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There were files at the start, or nothing could be read then, and now there are none.
    #[error(
        "{path} has no *.cedar file any more: put policies there, or start the daemon anew for the built-in roles to hold",
        path = .path.display()
    )]
    Emptied {
        /// The directory.
        path: PathBuf,
    },
    /// There is too much.
    #[error("{path} has more than {MAX_FILES} files, or {MAX_BYTES} bytes, of policies", path = .path.display())]
    TooMuch {
        /// The directory.
        path: PathBuf,
    },
    /// Something is wrong in a file.
    #[error("the policies are wrong:\n{0}")]
    Wrong(PolicyErrors),
    /// The API does not say who may call it: a bug.
    #[error("the API does not say who may call it")]
    Contract(#[from] ContractError),
}

/// The policies that hold now. Clones are the same.
#[derive(Clone, Debug)]
pub struct PolicyStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Written in an instant, with what was read and checked before.
    current: RwLock<Arc<Policies>>,
    /// What it was made of; `None`: of nothing, as it could not be read. Locked for a whole reload, so that there is one at a time.
    texts: Mutex<Option<Texts>>,
}

/// Files by their names.
type Texts = Vec<(String, String)>;

impl PolicyStore {
    /// Reads the policies of a directory. Where it has none, or is not there, the built-in roles hold.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(directory: &Path) -> Result<Self, PolicyError> {
        let contract = Arc::new(Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET)?);
        let texts = texts(directory)?;
        let policies = parse(directory, &contract, &texts)?;
        Ok(Self::new(directory, policies, Some(texts)))
    }

    /// A store that allows nothing until its directory can be read.
    ///
    /// # Errors
    /// The API does not say who may call it.
    pub fn closed(directory: &Path) -> Result<Self, PolicyError> {
        let contract = Arc::new(Contract::parse(aurae_proto::BARE_FILE_DESCRIPTOR_SET)?);
        let none = Policies::none(contract).map_err(PolicyError::Wrong)?;
        Ok(Self::new(directory, none, None))
    }

    fn new(directory: &Path, policies: Policies, texts: Option<Texts>) -> Self {
        let (current, texts) = (RwLock::new(Arc::new(policies)), Mutex::new(texts));
        Self { shared: Arc::new(Shared { directory: directory.to_owned(), current, texts }) }
    }

    /// Reads the directory again. What is under way was decided over, and goes on. Nothing happens where
    /// nothing has changed.
    ///
    /// # Errors
    /// What is wrong, with file and line, or that there are no files any more; what held goes on to hold.
    pub fn reload(&self) -> Result<(), PolicyError> {
        let mut before = self.shared.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = texts(&self.shared.directory)?;
        if before.as_ref() == Some(&texts) {
            return Ok(());
        }
        if texts.is_empty() {
            return Err(PolicyError::Emptied { path: self.shared.directory.clone() });
        }
        let contract = Arc::clone(self.current().contract());
        let policies = Arc::new(parse(&self.shared.directory, &contract, &texts)?);
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = policies;
        *before = Some(texts);
        Ok(())
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Arc<Policies> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where they are read from.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }
}

fn parse(
    directory: &Path,
    contract: &Arc<Contract>,
    files: &Texts,
) -> Result<Policies, PolicyError> {
    let contract = Arc::clone(contract);
    let policies = match files.as_slice() {
        [] => Policies::built_in(contract),
        files => Policies::parse(
            contract,
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())),
        ),
    };
    let policies = policies.map_err(PolicyError::Wrong)?;
    for warning in policies.warnings() {
        tracing::warn!(%warning, "a policy is hardly meant so");
    }
    let (files, rules) = (files.len(), policies.count());
    tracing::info!(directory = %directory.display(), files, rules, "policies hold");
    Ok(policies)
}

/// The files of a directory and what is in them, in the order of their names.
fn texts(directory: &Path) -> Result<Texts, PolicyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PolicyError::Read { path, source }
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(directory))?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(PolicyError::TooMuch { path: directory.to_owned() });
        }
    }
    paths.sort();
    let mut left = MAX_BYTES;
    let mut texts = Vec::new();
    for path in paths {
        let mut text = String::new();
        let file = File::open(&path).map_err(failed(&path))?;
        file.take(left + 1).read_to_string(&mut text).map_err(failed(&path))?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        left = left
            .checked_sub(length)
            .ok_or_else(|| PolicyError::TooMuch { path: directory.to_owned() })?;
        texts.push((path.display().to_string(), text));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Form, Object, Principal, Question};

    use super::*;
    use crate::reply::text;

    fn allows(store: &PolicyStore, who: &str) -> bool {
        let policies = store.current();
        let principal = &Principal::named(Form::Spiffe, who).unwrap();
        let method = policies.contract().action("cells.List").unwrap();
        let object = &Object::Zone(None);
        policies.authorize(Question { principal, method, object, request: None }).is_ok()
    }

    const ADMIN: &str = "spiffe://aurae.local/admin/a";
    const ANNA: &str = "spiffe://aurae.local/team-a/anna";
    const FOR_ANNA: &str =
        "permit (principal == Spiffe::\"spiffe://aurae.local/team-a/anna\", action, resource);";

    #[test]
    fn without_files_the_built_in_roles_hold() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("README"), "no policy").unwrap();
        for path in [directory.path(), &directory.path().join("missing")] {
            let store = PolicyStore::load(path).unwrap();
            assert!(allows(&store, ADMIN) && !allows(&store, ANNA));
        }
    }

    #[test]
    fn files_hold_instead_and_a_bad_one_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("10-team.cedar");
        std::fs::write(&file, FOR_ANNA).unwrap();
        let store = PolicyStore::load(directory.path()).unwrap();
        assert!(allows(&store, ANNA) && !allows(&store, ADMIN));

        let bad = directory.path().join("20-bad.cedar");
        std::fs::write(&bad, "permit (principal, action, resource);\npermit (principal").unwrap();
        let error = text(&store.reload().unwrap_err());
        assert!(error.contains(&format!("{}:2:", bad.display())), "{error}");
        assert!(allows(&store, ANNA) && !allows(&store, ADMIN));
        assert!(PolicyStore::load(directory.path()).is_err());

        std::fs::remove_file(&bad).unwrap();
        store.reload().unwrap();
        std::fs::write(&file, "permit (principal in Role::\"admin\", action, resource);").unwrap();
        store.reload().unwrap();
        assert!(allows(&store, ADMIN) && !allows(&store, ANNA));
    }

    #[test]
    fn a_directory_without_its_files_changes_nothing_and_says_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("policy");
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("10-team.cedar");
        std::fs::write(&file, FOR_ANNA).unwrap();
        let store = PolicyStore::load(&directory).unwrap();
        let keeps = || {
            let error = text(&store.reload().unwrap_err());
            assert!(error.contains("start the daemon anew for the built-in roles"), "{error}");
            assert!(allows(&store, ANNA) && !allows(&store, ADMIN));
        };
        std::fs::remove_file(&file).unwrap();
        keeps();
        std::fs::remove_dir(&directory).unwrap();
        keeps();
        // As it was: nothing is wrong any more.
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&file, FOR_ANNA).unwrap();
        store.reload().unwrap();
        assert!(allows(&store, ANNA));
        // A start is another matter.
        std::fs::remove_file(&file).unwrap();
        assert!(allows(&PolicyStore::load(&directory).unwrap(), ADMIN));
    }

    #[test]
    fn files_may_come_where_there_were_none_and_hold_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let store = PolicyStore::load(directory.path()).unwrap();
        store.reload().unwrap();
        assert!(allows(&store, ADMIN));
        let file = directory.path().join("10-team.cedar");
        std::fs::write(&file, FOR_ANNA).unwrap();
        store.reload().unwrap();
        assert!(allows(&store, ANNA) && !allows(&store, ADMIN));
        std::fs::remove_file(&file).unwrap();
        store.reload().unwrap_err();
        assert!(allows(&store, ANNA) && !allows(&store, ADMIN));
    }

    #[test]
    fn a_closed_store_opens_when_its_directory_has_policies() {
        let directory = tempfile::tempdir().unwrap();
        let store = PolicyStore::closed(directory.path()).unwrap();
        store.reload().unwrap_err();
        assert!(!allows(&store, ADMIN) && !allows(&store, ANNA));
        std::fs::write(directory.path().join("10-team.cedar"), FOR_ANNA).unwrap();
        store.reload().unwrap();
        assert!(allows(&store, ANNA) && !allows(&store, ADMIN));
    }

    #[test]
    fn a_directory_of_something_else_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=MAX_FILES {
            std::fs::write(directory.path().join(format!("{number}.cedar")), "").unwrap();
        }
        assert!(matches!(texts(directory.path()), Err(PolicyError::TooMuch { .. })));
        let directory = tempfile::tempdir().unwrap();
        let big = vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1];
        std::fs::write(directory.path().join("a.cedar"), big).unwrap();
        assert!(matches!(texts(directory.path()), Err(PolicyError::TooMuch { .. })));
    }
}
