//! A guest's request to run a command. A request that execve(2) could not take is refused while it is still in the
//! guest's memory.

use std::str;

use bytes::Bytes;

/// The longest path (`PATH_MAX`) and the longest argument (`MAX_ARG_STRLEN`), without the NUL byte.
pub(super) const LONGEST_PATH: usize = 4095;
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;
/// The limit for all arguments together, with a pointer and a NUL byte for each: a quarter of the usual stack.
const ALL_ARGUMENTS: usize = 2 << 20;
const EACH_ARGUMENT: usize = 9;

/// A request within the limits.
pub(super) struct Request {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) stdin: Bytes,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("a malformed command request")]
    Malformed,
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// No program can take this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    #[error("the program name has {0} bytes and is too long")]
    Program(usize),
    #[error("an argument has {0} bytes and is too long")]
    Argument(usize),
    #[error("there are too many arguments")]
    Arguments,
}

/// Counts what a request's program and arguments take.
#[derive(Default)]
pub(super) struct Size(usize);

impl Size {
    pub(super) fn add_program(length: usize) -> Result<Self, TooLarge> {
        if length > LONGEST_PATH { Err(TooLarge::Program(length)) } else { Ok(Self(0)) }
    }

    pub(super) fn add_argument(&mut self, length: usize) -> Result<(), TooLarge> {
        if length > LONGEST_ARGUMENT {
            return Err(TooLarge::Argument(length));
        }
        self.0 += length + EACH_ARGUMENT;
        if self.0 > ALL_ARGUMENTS { Err(TooLarge::Arguments) } else { Ok(()) }
    }
}

impl Request {
    /// From a module's memory: the program, the number of arguments, the arguments, and stdin. Each piece is its length and
    /// its bytes. Numbers are four bytes, little-endian.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, RequestError> {
        let program = piece(&mut bytes).ok_or(RequestError::Malformed)?;
        let mut size = Size::add_program(program.len())?;
        let program = text(program)?;
        // Each argument takes at least four bytes, so a wrong count ends soon.
        let count = number(&mut bytes).ok_or(RequestError::Malformed)?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            let argument = piece(&mut bytes).ok_or(RequestError::Malformed)?;
            size.add_argument(argument.len())?;
            arguments.push(text(argument)?);
        }
        let stdin = piece(&mut bytes).ok_or(RequestError::Malformed)?;
        if !bytes.is_empty() {
            return Err(RequestError::Malformed);
        }
        Ok(Self { program, arguments, stdin: Bytes::copy_from_slice(stdin) })
    }
}

fn number(from: &mut &[u8]) -> Option<usize> {
    let (number, rest) = from.split_first_chunk()?;
    *from = rest;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn piece<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(from)?;
    let (piece, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(piece)
}

fn text(bytes: &[u8]) -> Result<String, RequestError> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| RequestError::Malformed)
}
