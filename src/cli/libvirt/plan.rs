//! Plans changes before any is made, so that a change that cannot be completed is not begun.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::launcher;
use super::state::EntryPoint;
use super::transfer::{self, beside};

/// Steps in order, and notes for the user.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
}

/// One change to the file system.
#[derive(Debug)]
pub(super) enum Step {
    MakeDirectory(PathBuf),
    RemoveDirectory(PathBuf),
    /// Gives a hook a second name. A later step removes the first, so that libvirt always finds a hook.
    Move {
        from: PathBuf,
        to: PathBuf,
    },
    /// Removes the first name of a moved hook.
    Unlink(PathBuf),
    /// Moves a hook back and replaces what is there.
    MoveBack {
        from: PathBuf,
        to: PathBuf,
    },
    /// Writes what libvirt should call, and replaces whatever has this name.
    Hook {
        path: PathBuf,
        program: String,
        entry_point: EntryPoint,
    },
    /// Creates a link that replaces a moved link.
    Link {
        path: PathBuf,
        to: PathBuf,
    },
    /// Creates links to files that a hook may look for next to itself.
    Mirror {
        directory: PathBuf,
        links: Vec<(PathBuf, PathBuf)>,
    },
    /// Removes such links.
    Unmirror {
        directory: PathBuf,
        links: Vec<PathBuf>,
    },
    Remove(PathBuf),
}

/// A sentence without its subject, such as "make …". It also fits after "would".
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory(path) => write!(f, "make    {}/", path.display()),
            Self::RemoveDirectory(path) => write!(f, "remove  {}/, if it is empty", path.display()),
            Self::Move { from, to } | Self::MoveBack { from, to } => {
                write!(f, "move    {} to {}", from.display(), to.display())
            }
            Self::Unlink(path) | Self::Remove(path) => write!(f, "remove  {}", path.display()),
            Self::Hook { path, program, entry_point: EntryPoint::Launcher } => {
                write!(f, "write   {}, which runs {program}", path.display())
            }
            Self::Hook { path, program, entry_point: EntryPoint::Link } => {
                write!(f, "link    {} to {program}", path.display())
            }
            Self::Link { path, to } => write!(f, "link    {} to {}", path.display(), to.display()),
            Self::Mirror { directory, links } => {
                write!(f, "link    {}/* to {}", directory.display(), counted(links.len(), "file", "next to the hooks"))
            }
            Self::Unmirror { directory, links } => {
                write!(f, "remove  {} in {}", counted(links.len(), "link", ""), directory.display())
            }
        }
    }
}

/// `1 file next to the hooks`, `2 files next to the hooks`.
fn counted(count: usize, what: &str, where_to: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural} {where_to}").trim_end().to_owned()
}

impl Step {
    pub(super) fn makes_directory(&self) -> bool {
        matches!(self, Self::MakeDirectory(_))
    }

    pub(super) fn removes_directory(&self) -> bool {
        matches!(self, Self::RemoveDirectory(_))
    }

    fn perform(&self) -> io::Result<()> {
        match self {
            Self::MakeDirectory(path) => DirBuilder::new().mode(0o755).create(path),
            Self::RemoveDirectory(path) => match fs::remove_dir(path) {
                Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
                    Ok(())
                }
                removed => removed,
            },
            Self::Move { from, to } => transfer::second_name(from, to),
            Self::MoveBack { from, to } => transfer::back(from, to),
            Self::Hook { path, program, entry_point: EntryPoint::Launcher } => {
                let new = beside(path);
                fs::write(&new, launcher::text(program))?;
                fs::set_permissions(&new, Permissions::from_mode(0o755))?;
                fs::File::open(&new)?.sync_all()?;
                fs::rename(&new, path)
            }
            Self::Hook { path, program, entry_point: EntryPoint::Link } => link(Path::new(program), path),
            Self::Link { path, to } => link(to, path),
            Self::Mirror { directory, links } => {
                links.iter().try_for_each(|(name, target)| link(target, &directory.join(name)))
            }
            Self::Unmirror { directory, links } => {
                links.iter().try_for_each(|name| fs::remove_file(directory.join(name)))
            }
            Self::Unlink(path) | Self::Remove(path) => fs::remove_file(path),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::MakeDirectory(path) => json!({"action": "make-directory", "path": text(path)}),
            Self::RemoveDirectory(path) => json!({"action": "remove-directory", "path": text(path)}),
            Self::Move { from, to } | Self::MoveBack { from, to } => {
                json!({"action": "move", "path": text(from), "to": text(to)})
            }
            Self::Hook { path, program, entry_point: EntryPoint::Launcher } => {
                json!({"action": "write", "path": text(path), "program": program})
            }
            Self::Hook { path, program, entry_point: EntryPoint::Link } => {
                json!({"action": "link", "path": text(path), "to": program})
            }
            Self::Link { path, to } => json!({"action": "link", "path": text(path), "to": text(to)}),
            Self::Mirror { directory, links } => {
                let names: Vec<_> = links.iter().map(|(name, _)| text(name)).collect();
                json!({"action": "link-siblings", "path": text(directory), "names": names})
            }
            Self::Unmirror { directory, links } => {
                let names: Vec<_> = links.iter().map(|name| text(name)).collect();
                json!({"action": "unlink-siblings", "path": text(directory), "names": names})
            }
            Self::Unlink(path) | Self::Remove(path) => json!({"action": "remove", "path": text(path)}),
        }
    }
}

/// A path in JSON, which has only UTF-8.
pub(super) fn text(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Creates a link, and replaces whatever has its name.
fn link(to: &Path, path: &Path) -> io::Result<()> {
    let new = beside(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(to, &new)?;
    fs::rename(&new, path)
}

impl Plan {
    pub(super) fn perform(&self, which: impl Fn(&Step) -> bool) -> anyhow::Result<()> {
        for step in self.steps.iter().filter(|step| which(step)) {
            step.perform().with_context(|| format!("could not {}", step.to_string().replace("  ", "")))?;
        }
        Ok(())
    }

    /// The steps and notes, one per line.
    pub(super) fn to_text(&self, dry_run: bool) -> String {
        let prefix = if dry_run { "would " } else { "" };
        // Removing the first name of a moved hook is a part of the move.
        let steps = self.steps.iter().filter(|step| !matches!(step, Step::Unlink(_)));
        let steps = steps.map(|step| format!("{prefix}{step}\n"));
        let notes = self.notes.iter().map(|note| format!("note: {note}\n"));
        steps.chain(notes).collect()
    }

    pub(super) fn to_json(&self, dry_run: bool) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(Step::to_json).collect();
        json!({
            "changed": !self.steps.is_empty() && !dry_run,
            "would_change": !self.steps.is_empty(),
            "steps": steps,
            "notes": self.notes,
        })
    }
}
