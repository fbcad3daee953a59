//! The encoding of a preview 1 module's commands: little-endian integers, and the length before each piece of bytes.

use crate::{Command, CommandError, ExitStatus, Output};

/// Program, number of arguments, arguments, stdin.
pub(super) fn request(command: &Command) -> Vec<u8> {
    let mut request = Vec::new();
    put(&mut request, command.program().as_bytes());
    put_length(&mut request, command.arguments().len());
    for argument in command.arguments() {
        put(&mut request, argument.as_bytes());
    }
    put(&mut request, command.input());
    request
}

fn put(request: &mut Vec<u8>, bytes: &[u8]) {
    put_length(request, bytes.len());
    request.extend(bytes);
}

fn put_length(request: &mut Vec<u8>, length: usize) {
    // A module's addresses have 32 bits.
    request.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

/// The results of `command_run` and `command_response`. `response` is `None` if the runtime did not provide one.
pub(super) fn response(program: &str, outcome: u32, response: Option<&[u8]>) -> Result<Output, CommandError> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let broken = |why| CommandError::not_started(program, why);
    match (outcome, response) {
        (0, Some(bytes)) => Reader(bytes).output().ok_or_else(|| broken("the runtime's answer is of an unknown form")),
        (1, Some(bytes)) => Err(CommandError::Refused { program: program.to_owned(), reason: text(bytes) }),
        (_, Some(bytes)) => Err(CommandError::NotStarted { program: program.to_owned(), reason: text(bytes) }),
        (_, None) => Err(broken("the runtime did not answer")),
    }
}

/// The unread part of a response.
struct Reader<'response>(&'response [u8]);

impl Reader<'_> {
    /// Kind, code, stdout, stderr, the number of bytes dropped from each, and nothing more.
    fn output(mut self) -> Option<Output> {
        let status = match (self.u32()?, self.u32()?) {
            (0, code) => ExitStatus::Exited(u8::try_from(code).ok()?),
            (1, signal) => ExitStatus::Signaled(signal),
            (2, _) => ExitStatus::TimedOut,
            _ => return None,
        };
        let (stdout, stderr) = (self.bytes()?, self.bytes()?);
        let (stdout_dropped, stderr_dropped) = (self.u64()?, self.u64()?);
        self.0.is_empty().then(|| Output { stdout_dropped, stderr_dropped, ..Output::new(status, stdout, stderr) })
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_program_arguments_and_input() {
        let mut command = Command::new("/nft");
        command.args(["-f", ""]).stdin([0xff]);
        let expected = b"\x04\0\0\0/nft\x02\0\0\0\x02\0\0\0-f\0\0\0\0\x01\0\0\0\xff";
        assert_eq!(request(&command), expected);
    }

    const ANSWER: &[u8] = b"\0\0\0\0\x03\0\0\0\x02\0\0\0hi\x01\0\0\0!\x07\0\0\0\0\0\0\0\x00\x01\0\0\0\0\0\0";

    #[test]
    fn a_response_has_the_termination_and_the_output() {
        let mut expected = Output::new(ExitStatus::Exited(3), b"hi".into(), b"!".into());
        (expected.stdout_dropped, expected.stderr_dropped) = (7, 256);
        assert_eq!(response("/nft", 0, Some(ANSWER)), Ok(expected));
        for (kind, status) in [(1, ExitStatus::Signaled(3)), (2, ExitStatus::TimedOut)] {
            let mut answer = ANSWER.to_vec();
            answer[0] = kind;
            assert_eq!(response("/nft", 0, Some(&answer)).map(|output| output.status), Ok(status));
        }
    }

    #[test]
    fn a_response_of_another_form_is_an_error_and_no_panic() {
        let mut answers: Vec<Vec<u8>> = (0..ANSWER.len()).map(|length| ANSWER[..length].to_vec()).collect();
        answers.push([ANSWER, b"x"].concat());
        answers.extend([(0, 3), (5, 1), (11, 0xff)].map(|(at, byte)| {
            let mut answer = ANSWER.to_vec();
            answer[at] = byte;
            answer
        }));
        for answer in answers {
            let error = response("/nft", 0, Some(&answer)).err().map(|error| error.to_string());
            assert_eq!(
                error.as_deref(),
                Some("/nft could not be run: the runtime's answer is of an unknown form"),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_refusal_differs_from_a_failure() {
        let error = |outcome, answer| response("/nft", outcome, answer).err().map(|error| error.to_string());
        assert_eq!(error(1, Some(b"no".as_slice())).as_deref(), Some("this hook may not run /nft: no"));
        assert_eq!(error(2, Some(b"no\xff".as_slice())).as_deref(), Some("no\u{fffd}"));
        assert_eq!(error(0, None).as_deref(), Some("/nft could not be run: the runtime did not answer"));
        assert!(response("/nft", 1, Some(b"no")).is_err_and(|error| error.is_refusal()));
    }
}
