//! A record, once it is closed.

use std::borrow::Cow;
use std::sync::Arc;

use aurae_authz::{Action, Principal};
use tonic::Code;

/// Of each text of a record so many bytes are kept: names and paths are shorter, unless somebody wants
/// to fill the log.
const MAX_TEXT: usize = 512;

/// What became of a call, or of a connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number; each is greater than the one before.
    pub sequence: u64,
    /// When the call came, in nanoseconds since the epoch.
    pub unix_nanos: u64,
    /// Its number among the calls of this daemon.
    pub request: u64,
    /// Who asked; `None`: nobody that was let in.
    pub principal: Option<Principal>,
    /// From where.
    pub peer: Arc<str>,
    /// What for; `None`: a connection that was refused.
    pub action: Option<Action>,
    /// What it was for.
    pub resource: Option<Cow<'static, str>>,
    /// Whether it was allowed.
    pub decision: Decision,
    /// The policies that decided.
    pub rule: Option<Arc<str>>,
    /// How it ended.
    pub code: Code,
    /// How long it took.
    pub duration_us: u64,
    /// Why a connection was refused.
    pub reason: Option<String>,
    /// So many before have no record: refused connections, or, of a call, calls of its principal.
    pub omitted: u64,
}

/// Whether a call was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was.
    Allowed,
    /// It was not, or a limit turned it away before.
    Denied,
}

impl Decision {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

impl Entry {
    /// The bytes of memory that it takes. What it shares with its connection is counted: the connection
    /// may be gone.
    pub(super) fn size(&self) -> usize {
        let texts = [
            self.principal.as_ref().map(|principal| principal.name().len()),
            Some(self.peer.len()),
            self.action.as_ref().map(|action| action.as_str().len()),
            self.resource.as_ref().map(|resource| resource.len()),
            self.rule.as_ref().map(|rule| rule.len()),
            self.reason.as_ref().map(String::len),
        ];
        size_of::<Self>() + texts.into_iter().flatten().sum::<usize>()
    }

    /// A line of JSON for the file.
    pub(super) fn write_line(&self, line: &mut Vec<u8>) {
        let end = [
            ("status", i32::from(self.code).into()),
            ("duration_us", self.duration_us.into()),
            ("reason", self.reason.as_deref().map(cut).unwrap_or_default().into()),
            ("omitted", self.omitted.into()),
        ];
        self.write(end, line);
    }

    /// The line that says that the call was let in. How it ends is not known.
    pub(super) fn write_begun(&self, line: &mut Vec<u8>) {
        self.write([("begun", true.into())], line);
    }

    fn write<const N: usize>(
        &self,
        end: [(&'static str, serde_json::Value); N],
        line: &mut Vec<u8>,
    ) {
        let text = |text: Option<&str>| serde_json::Value::from(cut(text.unwrap_or_default()));
        let principal = self.principal.as_ref();
        let fields = [
            ("sequence", self.sequence.into()),
            ("unix_nanos", self.unix_nanos.into()),
            ("request_id", self.request.into()),
            ("principal", text(principal.map(Principal::name))),
            ("form", text(principal.map(|principal| principal.form().as_str()))),
            ("peer", text(Some(&self.peer))),
            ("action", text(self.action.as_ref().map(Action::as_str))),
            ("resource", text(self.resource.as_deref())),
            ("decision", self.decision.as_str().into()),
            ("rule", text(self.rule.as_deref())),
        ];
        let mut separator = '{';
        for (name, value) in fields.into_iter().chain(end).filter(|(_, value)| *value != "") {
            // Names need no escape; a value's text is JSON.
            line.extend(format!("{separator}\"{name}\":{value}").as_bytes());
            separator = ',';
        }
        line.extend(b"}\n");
    }
}

/// The beginning of a text, as much as is kept.
pub(super) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default()
}

/// The same of an action, which is whatever a client sent as a path.
pub(super) fn cut_action(action: Action) -> Action {
    match action.as_str().len() {
        0..=MAX_TEXT => action,
        _ => Action::new(cut(action.as_str())),
    }
}

/// The same of a text that may have an owner.
pub(super) fn cut_owned(text: Cow<'static, str>) -> Cow<'static, str> {
    match text.len() {
        0..=MAX_TEXT => text,
        _ => Cow::Owned(cut(&text).to_owned()),
    }
}

/// The same of a text that is shared.
pub(super) fn cut_shared(text: &Arc<str>) -> Arc<str> {
    match text.len() {
        0..=MAX_TEXT => Arc::clone(text),
        _ => cut(text).into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record of no call.
    pub(in super::super) fn entry(sequence: u64) -> Entry {
        Entry {
            sequence,
            unix_nanos: sequence,
            request: 0,
            principal: Some(Principal::common_name("alice")),
            peer: "127.0.0.1:1".into(),
            action: Some(Action::new("/a.B/C")),
            resource: None,
            decision: Decision::Allowed,
            rule: None,
            code: Code::Ok,
            duration_us: 7,
            reason: None,
            omitted: 0,
        }
    }

    #[test]
    fn a_line_is_json_in_the_order_of_the_fields() {
        let mut line = Vec::new();
        Entry { resource: Some("cells/\"web\"\n".into()), ..entry(5) }.write_line(&mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"sequence\":5,\"unix_nanos\":5,\"request_id\":0,\"principal\":\"alice\",\
             \"form\":\"common-name\",\"peer\":\"127.0.0.1:1\",\"action\":\"/a.B/C\",\
             \"resource\":\"cells/\\\"web\\\"\\n\",\"decision\":\"allowed\",\"status\":0,\
             \"duration_us\":7,\"omitted\":0}\n"
        );
    }

    #[test]
    fn what_was_begun_has_no_end() {
        let mut line = Vec::new();
        entry(5).write_begun(&mut line);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"sequence\":5,\"unix_nanos\":5,\"request_id\":0,\"principal\":\"alice\",\
             \"form\":\"common-name\",\"peer\":\"127.0.0.1:1\",\"action\":\"/a.B/C\",\
             \"decision\":\"allowed\",\"begun\":true}\n"
        );
    }

    #[test]
    fn what_a_client_makes_long_is_cut() {
        let long = cut_action(Action::new(&"é".repeat(MAX_TEXT)));
        assert_eq!(long.as_str().len(), MAX_TEXT);
        let long = "x".repeat(MAX_TEXT + 1);
        assert_eq!(cut_owned(long.clone().into()).len(), MAX_TEXT);
        assert_eq!(cut_shared(&long.into()).len(), MAX_TEXT);
        let mut line = Vec::new();
        Entry { principal: Some(Principal::common_name(&"y".repeat(9999))), ..entry(1) }
            .write_line(&mut line);
        assert!(line.len() < 2 * MAX_TEXT);
    }
}
