//! What is noted on a cell's cgroup, for whoever finds it there: another daemon, or this one after a
//! restart. The kernel keeps the notes for as long as the cgroup.
//!
//! ```text
//! mkdir ─▶ (no notes) ─describe─▶ traits ─ready─▶ live ─free─▶ freeing ─▶ rmdir
//!              half made ───────────┘              └─▶ failed ──┘
//! ```

use std::ffi::CStr;

use aurae_kernel::Result;
use aurae_kernel::cgroup::Cgroup;

/// What the cell was asked to be.
const TRAITS: &CStr = c"trusted.aurae.cell";
/// How it stands.
const STANDING: &CStr = c"trusted.aurae.standing";

/// Whether it stands still.
const FROZEN: &CStr = c"trusted.aurae.frozen";

/// Of a reason so many characters are kept: a note is short.
const MAX_REASON: usize = 200;

const LIVE: &str = "live";
const FREEING: &str = "freeing";
const FAILED: &str = "failed ";

/// What a cell was asked to be, beside its limits, which are the cgroup's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its own pid, mount, ipc and uts namespaces.
    pub isolate_process: bool,
    /// Its own network namespace.
    pub isolate_network: bool,
    /// Its executables may have its API on a socket.
    pub api_socket: bool,
    /// Its file systems are read-only to it.
    pub read_only_root: bool,
    /// Its own `/tmp`.
    pub private_tmp: bool,
    /// `/proc` and `/sys` as the kernel has them.
    pub unmasked_paths: bool,
}

/// How a cell stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being made, or was left half made.
    Unfinished,
    /// Its daemon got ready.
    Live,
    /// It is being freed, or was left half freed.
    Freeing,
    /// Its daemon ended.
    Failed(String),
}

/// Whether a cell stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frozen {
    /// It does not.
    No,
    /// That was asked for by its name.
    Asked,
    /// The zone around it does.
    Around,
}

impl Frozen {
    const ALL: [(Self, &str); 3] =
        [(Self::No, "no"), (Self::Asked, "asked"), (Self::Around, "around")];

    /// Notes it.
    pub(super) fn note(self, cgroup: &Cgroup) -> Result<()> {
        let word = Self::ALL.iter().find(|(frozen, _)| *frozen == self);
        word.map_or(Ok(()), |(_, word)| cgroup.note(FROZEN, word))
    }

    /// What is noted on `cgroup`.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Self> {
        let Some(text) = cgroup.noted(FROZEN)? else { return Ok(Self::No) };
        let known = Self::ALL.iter().find(|(_, word)| *word == text);
        Ok(known.map_or(Self::No, |(frozen, _)| *frozen))
    }
}

impl Traits {
    /// Notes them on a new cgroup.
    pub(super) fn note(self, cgroup: &Cgroup) -> Result<()> {
        let words = self.words().filter_map(|(word, holds)| holds.then_some(word));
        cgroup.note(TRAITS, &words.collect::<Vec<_>>().join(" "))
    }

    /// What is noted on `cgroup`; `None` where it is no cell's.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Option<Self>> {
        let Some(text) = cgroup.noted(TRAITS)? else { return Ok(None) };
        let has = |wanted| text.split(' ').any(|word| word == wanted);
        Ok(Some(Self {
            isolate_process: has("process"),
            isolate_network: has("network"),
            api_socket: has("socket"),
            read_only_root: has("read-only-root"),
            private_tmp: has("private-tmp"),
            unmasked_paths: has("unmasked"),
        }))
    }

    fn words(self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("process", self.isolate_process),
            ("network", self.isolate_network),
            ("socket", self.api_socket),
            ("read-only-root", self.read_only_root),
            ("private-tmp", self.private_tmp),
            ("unmasked", self.unmasked_paths),
        ]
        .into_iter()
    }
}

impl Standing {
    /// Notes it.
    pub(super) fn note(&self, cgroup: &Cgroup) -> Result<()> {
        match self {
            Self::Unfinished => Ok(()),
            Self::Live => cgroup.note(STANDING, LIVE),
            Self::Freeing => cgroup.note(STANDING, FREEING),
            Self::Failed(reason) => {
                let reason: String = reason.chars().take(MAX_REASON).collect();
                cgroup.note(STANDING, &format!("{FAILED}{reason}"))
            }
        }
    }

    /// What is noted on `cgroup`.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Self> {
        Ok(cgroup.noted(STANDING)?.map_or(Self::Unfinished, |text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        match (text, text.strip_prefix(FAILED)) {
            (LIVE, _) => Self::Live,
            (FREEING, _) => Self::Freeing,
            (_, Some(reason)) => Self::Failed(reason.to_owned()),
            // A newer daemon's: whatever it means, this one cannot use the cell.
            _ => Self::Failed(format!("its cgroup says {text:?}")),
        }
    }
}
