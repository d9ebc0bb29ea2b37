//! Requests that are conversations: `Exec` and `Attach`.

use aurae_authz::{Executable, Node, Permit};
use aurae_kernel::process::parse_signal;
use aurae_model::{Command, ExecutableName, Invalid};
use aurae_proto::cells as wire;
use aurae_proto::cells::cell_service_attach_request::Message as ToExecutable;
use aurae_proto::cells::cell_service_exec_request::Message as ToCommand;
use bytes::Bytes;

use super::Admission;
use super::cells::{environment, id, terminal, working_directory};
use super::security::security;
use crate::runtime::stdio::{Controls, Input};

/// The most bytes of input in one message.
const MAX_STDIN: usize = 1 << 20;

/// `Exec`: its first message.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn exec(
    permit: Permit,
    first: Option<wire::CellServiceExecRequest>,
) -> Result<(Permit<Node>, Command), Admission> {
    let Some(ToCommand::Start(start)) = first.and_then(|first| first.message) else {
        return Err(Invalid::new("start", "Must be the first message").into());
    };
    Ok((permit.narrow(Node)?, command(start)?))
}

fn command(start: wire::ExecStart) -> Result<Command, Admission> {
    match start.args.first() {
        None => return Err(Invalid::required("start.args").into()),
        Some(first) if first.is_empty() => {
            let rule = "The first is the program, and must not be empty";
            return Err(Invalid::new("start.args", rule).into());
        }
        Some(_) if start.args.iter().any(|argument| argument.contains('\0')) => {
            return Err(Invalid::new("start.args", "Must not contain NUL").into());
        }
        Some(_) => {}
    }
    Ok(Command {
        arguments: start.args,
        env: environment(start.env, "start.env")?,
        working_directory: working_directory(start.working_directory, "start.working_directory")?,
        uid: id(start.uid, "start.uid")?,
        gid: id(start.gid, "start.gid")?,
        stdin: start.stdin,
        terminal: start.terminal.map(|size| terminal(size, "start.terminal")).transpose()?,
        security: security(
            start.security.map(|boxed| *boxed),
            "start.security",
            "start.security.seccomp",
        )?,
    })
}

/// `Attach`: its first message.
///
/// # Errors
/// The field that breaks a rule, or a denial.
pub fn attach(
    permit: Permit,
    first: Option<wire::CellServiceAttachRequest>,
) -> Result<Permit<Executable>, Admission> {
    let Some(ToExecutable::Start(start)) = first.and_then(|first| first.message) else {
        return Err(Invalid::new("start", "Must be the first message").into());
    };
    let name = ExecutableName::parse(&start.executable_name, "start.executable_name")?;
    Ok(permit.narrow(Executable { cell: None, name })?)
}

/// What may come in a conversation after its first message.
#[derive(Clone, Copy, Debug)]
pub struct Conversation {
    input: bool,
    terminal: bool,
    input_ended: bool,
}

/// A message after the first, of either RPC.
enum Message {
    Start,
    Stdin(Bytes),
    StdinEnd,
    Resize(wire::TerminalSize),
    Signal(i32),
}

impl Conversation {
    /// With what is at the other end of `controls`.
    #[must_use]
    pub fn with(controls: &Controls) -> Self {
        Self::new(controls.has_input(), controls.has_terminal())
    }

    /// With something that has an input, or a terminal, or not.
    #[must_use]
    pub fn new(input: bool, terminal: bool) -> Self {
        Self { input, terminal, input_ended: false }
    }

    /// A message to a command.
    ///
    /// # Errors
    /// The field that breaks a rule, or comes when it must not.
    pub fn to_command(&mut self, wire: wire::CellServiceExecRequest) -> Result<Input, Admission> {
        self.next(wire.message.map(|message| match message {
            ToCommand::Start(_) => Message::Start,
            ToCommand::Stdin(bytes) => Message::Stdin(bytes),
            ToCommand::StdinEnd(wire::StdinEnd {}) => Message::StdinEnd,
            ToCommand::Resize(size) => Message::Resize(size),
            ToCommand::Signal(signal) => Message::Signal(signal),
        }))
    }

    /// A message to an executable.
    ///
    /// # Errors
    /// As [`Self::to_command`].
    pub fn to_executable(
        &mut self,
        wire: wire::CellServiceAttachRequest,
    ) -> Result<Input, Admission> {
        self.next(wire.message.map(|message| match message {
            ToExecutable::Start(_) => Message::Start,
            ToExecutable::Stdin(bytes) => Message::Stdin(bytes),
            ToExecutable::StdinEnd(wire::StdinEnd {}) => Message::StdinEnd,
            ToExecutable::Resize(size) => Message::Resize(size),
            ToExecutable::Signal(signal) => Message::Signal(signal),
        }))
    }

    fn next(&mut self, message: Option<Message>) -> Result<Input, Admission> {
        let refused = |field, rule: &str| Err(Invalid::new(field, rule).into());
        match message {
            None => refused("message", "Required"),
            Some(Message::Start) => refused("start", "Must be the first message, and no other"),
            Some(Message::Stdin(_) | Message::StdinEnd) if !self.input => {
                refused("stdin", "There is no input; ask for one with `start.stdin`")
            }
            Some(Message::Stdin(_)) if self.input_ended => {
                refused("stdin", "Must not come after `stdin_end`")
            }
            Some(Message::Stdin(bytes)) if bytes.len() > MAX_STDIN => {
                refused("stdin", &format!("At most {MAX_STDIN} bytes in a message"))
            }
            Some(Message::Stdin(bytes)) => Ok(Input::Bytes(bytes)),
            Some(Message::StdinEnd) => {
                self.input_ended = true;
                Ok(Input::End)
            }
            Some(Message::Resize(_)) if !self.terminal => {
                refused("resize", "There is no terminal; ask for one with `start.terminal`")
            }
            Some(Message::Resize(size)) => Ok(Input::Resize(terminal(size, "resize")?)),
            Some(Message::Signal(number)) => match parse_signal(number) {
                Some(signal) => Ok(Input::Signal(signal)),
                None => refused("signal", "Must be a signal in 1 to 64 that programs may use"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use aurae_authz::{Action, Principal, authorize_inside};

    use super::*;

    fn permit() -> Permit {
        authorize_inside(&Principal::parent(), Action::new("/x")).unwrap()
    }

    fn started(start: wire::ExecStart) -> Result<Command, String> {
        let first = wire::CellServiceExecRequest { message: Some(ToCommand::Start(start)) };
        exec(permit(), Some(first)).map(|(_, command)| command).map_err(|error| error.to_string())
    }

    fn cat() -> wire::ExecStart {
        wire::ExecStart { args: vec!["cat".into()], ..Default::default() }
    }

    fn said(conversation: &mut Conversation, message: ToCommand) -> Result<Input, String> {
        let wire = wire::CellServiceExecRequest { message: Some(message) };
        conversation.to_command(wire).map_err(|error| error.to_string())
    }

    fn stdin(bytes: &'static [u8]) -> ToCommand {
        ToCommand::Stdin(Bytes::from_static(bytes))
    }

    #[test]
    fn a_command_has_a_directory_unless_it_is_given_one() {
        let command = started(cat()).unwrap();
        assert_eq!((command.working_directory.as_str(), command.terminal), ("/", None));
    }

    #[test]
    fn every_field_of_the_first_message_is_checked() {
        let size = |rows, columns| Some(wire::TerminalSize { rows, columns });
        let cases = [
            (wire::ExecStart::default(), "Field = start.args; Required"),
            (wire::ExecStart { args: vec![String::new()], ..cat() }, "Field = start.args; The f"),
            (wire::ExecStart { args: vec!["a\0".into()], ..cat() }, "Field = start.args; Must n"),
            (wire::ExecStart { terminal: size(0, 80), ..cat() }, "Field = start.terminal.rows; "),
            (wire::ExecStart { terminal: size(24, 0), ..cat() }, "Field = start.terminal.columns"),
            (wire::ExecStart { uid: Some(u32::MAX), ..cat() }, "Field = start.uid; "),
            (wire::ExecStart { working_directory: "x".into(), ..cat() }, "Field = start.working_"),
            (
                wire::ExecStart { env: [("A=".into(), String::new())].into(), ..cat() },
                "Field = start.env; ",
            ),
        ];
        for (start, text) in cases {
            let refusal = started(start).unwrap_err();
            assert!(refusal.starts_with(text), "{refusal}");
        }
    }

    #[test]
    fn the_first_message_is_the_start_and_no_other_is() {
        for first in [None, Some(wire::CellServiceExecRequest { message: Some(stdin(b"x")) })] {
            let refusal = exec(permit(), first).unwrap_err().to_string();
            assert_eq!(refusal, "Field = start; Must be the first message");
        }
        let refusal =
            said(&mut Conversation::new(true, false), ToCommand::Start(cat())).unwrap_err();
        assert_eq!(refusal, "Field = start; Must be the first message, and no other");
    }

    #[test]
    fn what_there_is_not_cannot_be_used() {
        let end = ToCommand::StdinEnd(wire::StdinEnd {});
        let size = |rows| ToCommand::Resize(wire::TerminalSize { rows, columns: 80 });
        let mut bare = Conversation::new(false, false);
        assert!(said(&mut bare, stdin(b"x")).unwrap_err().starts_with("Field = stdin; There is"));
        assert!(said(&mut bare, end.clone()).unwrap_err().starts_with("Field = stdin; There is"));
        assert!(said(&mut bare, size(24)).unwrap_err().starts_with("Field = resize; There is"));
        let mut full = Conversation::new(true, true);
        assert_eq!(said(&mut full, stdin(b"x")), Ok(Input::Bytes(Bytes::from_static(b"x"))));
        assert!(said(&mut full, size(0)).unwrap_err().starts_with("Field = resize.rows; "));
        assert!(said(&mut full, size(24)).is_ok());
        assert_eq!(said(&mut full, end), Ok(Input::End));
        assert!(said(&mut full, stdin(b"x")).unwrap_err().contains("after `stdin_end`"));
    }

    #[test]
    fn messages_are_bounded_and_signals_are_signals() {
        static LONG: [u8; MAX_STDIN + 1] = [0; MAX_STDIN + 1];
        let mut full = Conversation::new(true, true);
        assert!(said(&mut full, stdin(&LONG)).unwrap_err().starts_with("Field = stdin; At most"));
        assert!(said(&mut full, ToCommand::Signal(2)).is_ok());
        for number in [0, -1, 65] {
            let refusal = said(&mut full, ToCommand::Signal(number)).unwrap_err();
            assert!(refusal.starts_with("Field = signal; "), "{refusal}");
        }
    }
}
