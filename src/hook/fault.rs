//! Everything on the path to a file that users other than root could change, as one sentence with one command that
//! fixes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::acl::Writer;

/// A directory or link on the path to a file, or the file itself, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) place: Place,
    /// Without links.
    pub(super) path: PathBuf,
    pub(super) problem: Problem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Directory,
    Link,
    File,
}

/// Why a user other than root could change it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Problem {
    Owner(u32),
    /// Its mode.
    Others(u32),
    Group {
        group: u32,
        mode: u32,
    },
    List(Writer),
    /// Its access control list could not be read.
    Unknown(String),
}

/// The number of names that are listed. The rest is counted.
const NAMED: usize = 3;

/// One sentence without its full stop. The file at the path is "it", unless the path leads to a file by a link.
pub(super) fn sentence(faults: &[Fault], it: &Path) -> String {
    words(faults, it, &Users::of_this_system())
}

fn words(faults: &[Fault], it: &Path, users: &Users) -> String {
    // Places with the same problems share a clause, in path order.
    let mut clauses: Vec<(Vec<&Fault>, Vec<&Problem>)> = Vec::new();
    for (first, problems) in by_place(faults) {
        match clauses.iter_mut().find(|(_, same)| *same == problems) {
            Some((places, _)) => places.push(first),
            None => clauses.push((vec![first], problems)),
        }
    }
    let clauses: Vec<String> = clauses.iter().map(|(places, problems)| clause(places, problems, it, users)).collect();
    let mend = match home(faults, users) {
        Some((home, user)) => away_from(home, &user, faults, it),
        None => match command(faults) {
            command if command.is_empty() => "look at it with getfacl".to_owned(),
            command => format!("run `{command}`{}", condition(faults)),
        },
    };
    format!("{}: {mend}", clauses.join("; "))
}

/// Each place once, with all its problems.
fn by_place(faults: &[Fault]) -> Vec<(&Fault, Vec<&Problem>)> {
    let mut places: Vec<(&Fault, Vec<&Problem>)> = Vec::new();
    for fault in faults {
        match places.iter_mut().find(|(first, _)| first.path == fault.path) {
            Some((_, problems)) if problems.contains(&&fault.problem) => {}
            Some((_, problems)) => problems.push(&fault.problem),
            None => places.push((fault, vec![&fault.problem])),
        }
    }
    places
}

fn clause(places: &[&Fault], problems: &[&Problem], it: &Path, users: &Users) -> String {
    let is_one = places.len() == 1;
    let owned = matches!(problems, [Problem::Owner(_), ..]);
    let problems: Vec<String> = problems.iter().map(|problem| problem.words(users, is_one)).collect();
    let be = if is_one { "is" } else { "are" };
    let and = if owned { ", and " } else { " and " };
    format!("{} {be} {}", subject(places, it), problems.join(and))
}

/// `it`, `the directory /srv`, `it and the directories /srv and /srv/hooks`.
fn subject(places: &[&Fault], it: &Path) -> String {
    let is_it = |fault: &Fault| fault.path == it && fault.place != Place::Link;
    let of = |place| {
        let paths = places.iter().filter(|fault| fault.place == place && !is_it(fault));
        paths.map(|fault| fault.path.display().to_string()).collect::<Vec<_>>()
    };
    if let ([link], [_]) = (of(Place::Link).as_slice(), places) {
        return format!("{link} is a link that");
    }
    let its = places.iter().any(|fault| is_it(fault)).then(|| "it".to_owned());
    let kinds = [
        (Place::Directory, "directory", "directories"),
        (Place::Link, "link", "links"),
        (Place::File, "file", "files"),
    ];
    let named = kinds.into_iter().filter_map(|(place, one, more)| match of(place).as_slice() {
        [] => None,
        [path] => Some(format!("the {one} {path}")),
        paths if paths.len() > NAMED => {
            Some(format!("the {more} {} and {} more", paths[..NAMED - 1].join(", "), paths.len() + 1 - NAMED))
        }
        paths => Some(format!("the {more} {}", and(paths))),
    });
    and(&its.into_iter().chain(named).collect::<Vec<_>>())
}

fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl Problem {
    fn words(&self, users: &Users, is_one: bool) -> String {
        match self {
            Self::Owner(user) => {
                let what = if is_one { "it" } else { "them" };
                format!("owned by {}, who could change {what}", users.user(*user))
            }
            Self::Others(mode) => format!("writable by others (mode {mode:04o})"),
            Self::Group { group, mode } => format!("writable by {} (mode {mode:04o})", users.group(*group)),
            Self::List(Writer::User(user)) => format!("writable by {} (an access control list)", users.user(*user)),
            Self::List(Writer::Group(group)) => format!("writable by {} (an access control list)", users.group(*group)),
            Self::Unknown(error) => {
                format!("not known to be safe, since its access control list could not be read: {error}")
            }
        }
    }
}

/// The command that gives all of these to root alone. Empty if there is none, or if it would change a user's home
/// directory.
pub(super) fn command_for_all(faults: &[Fault]) -> String {
    if home(faults, &Users::of_this_system()).is_some() { String::new() } else { command(faults) }
}

/// The shell command that fixes every fault. Empty if there is none.
fn command(faults: &[Fault]) -> String {
    let mut paths: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut add = |command, fault: &Fault| {
        let path = quoted(&fault.path);
        let paths = paths.entry(command).or_default();
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    for fault in faults {
        match (&fault.problem, fault.place) {
            (Problem::Owner(_), Place::Link) => add("chown -h root:", fault),
            (Problem::Owner(_), _) => add("chown root:", fault),
            (Problem::Others(_) | Problem::Group { .. }, _) => add("chmod", fault),
            (Problem::List(_), _) => add("setfacl -b", fault),
            (Problem::Unknown(_), _) => {}
        }
    }
    let commands = paths.iter().map(|(command, paths)| match *command {
        "chmod" => format!("chmod {} {}", class(faults), paths.join(" ")),
        command => format!("{command} {}", paths.join(" ")),
    });
    commands.collect::<Vec<_>>().join(" && ")
}

/// The class of users that lose write permission.
fn class(faults: &[Fault]) -> &'static str {
    let has = |is: fn(&Problem) -> bool| faults.iter().any(|fault| is(&fault.problem));
    match (has(|p| matches!(p, Problem::Group { .. })), has(|p| matches!(p, Problem::Others(_)))) {
        (true, false) => "g-w",
        (false, true) => "o-w",
        _ => "go-w",
    }
}

/// Giving a file to root means trusting its content.
fn condition(faults: &[Fault]) -> &'static str {
    let mut owned: Vec<&Path> =
        faults.iter().filter(|f| matches!(f.problem, Problem::Owner(_))).map(|f| f.path.as_path()).collect();
    owned.dedup();
    match owned.len() {
        0 => "",
        1 => " if you trust it",
        _ => " if you trust them",
    }
}

/// A home directory on the path. It must keep its owner.
fn home<'a>(faults: &'a [Fault], users: &Users) -> Option<(&'a Path, String)> {
    faults.iter().find_map(|fault| match fault.problem {
        Problem::Owner(user) if users.home(user) == Some(fault.path.as_path()) => {
            Some((fault.path.as_path(), users.user(user)))
        }
        _ => None,
    })
}

fn away_from(home: &Path, user: &str, faults: &[Fault], it: &Path) -> String {
    let why = format!("{} is the home directory of {user}", home.display());
    let file = faults.iter().rfind(|fault| fault.place == Place::File).map(|fault| &fault.path);
    match file.filter(|file| file.starts_with(home) && it.is_symlink() && !it.starts_with(home)) {
        Some(file) => format!(
            "{why}, so use a copy of the file: run `cp --remove-destination {} {}` if you trust it",
            quoted(file),
            quoted(it)
        ),
        None => format!("{why}, so move what hooks need to a directory of root's"),
    }
}

/// A path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    shlex::try_quote(&path).map_or_else(|_| path.clone(), Into::into)
}

/// Names of users and groups, only from the local files: a directory service could block a daemon.
struct Users {
    users: String,
    groups: String,
}

impl Users {
    fn of_this_system() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    fn user(&self, id: u32) -> String {
        format!("user {}", name(&self.users, id).map_or_else(|| id.to_string(), str::to_owned))
    }

    fn group(&self, id: u32) -> String {
        format!("group {}", name(&self.groups, id).map_or_else(|| id.to_string(), str::to_owned))
    }

    fn home(&self, id: u32) -> Option<&Path> {
        let home = line(&self.users, id)?.split(':').nth(5)?;
        Some(Path::new(home)).filter(|home| home.parent().is_some_and(|above| above != Path::new("")))
    }
}

fn line(database: &str, id: u32) -> Option<&str> {
    database.lines().find(|line| line.split(':').nth(2).is_some_and(|field| field.parse() == Ok(id)))
}

fn name(database: &str, id: u32) -> Option<&str> {
    line(database, id)?.split(':').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(place: Place, path: &str, problem: Problem) -> Fault {
        Fault { place, path: path.into(), problem }
    }

    #[test]
    fn one_command_takes_every_fault_away() {
        let faults = [
            fault(Place::Directory, "/srv/a b", Problem::Owner(40001)),
            fault(Place::Directory, "/srv/a b", Problem::Others(0o777)),
            fault(Place::Link, "/srv/a b/link", Problem::Owner(40001)),
            fault(Place::File, "/srv/it", Problem::Group { group: 40001, mode: 0o775 }),
            fault(Place::File, "/srv/it", Problem::List(Writer::User(40002))),
        ];
        assert_eq!(
            sentence(&faults, Path::new("/srv/it")),
            "the directory /srv/a b is owned by user 40001, who could change it, and writable by others (mode \
             0777); /srv/a b/link is a link that is owned by user 40001, who could change it; it is writable by group 40001 (mode \
             0775) and writable by user 40002 (an access control list): run `chmod go-w '/srv/a b' /srv/it && chown -h root: \
             '/srv/a b/link' && chown root: '/srv/a b' && setfacl -b /srv/it` if you trust them"
        );
    }

    #[test]
    fn places_with_the_same_fault_are_told_together_and_counted() {
        let mine = |place, path: &str| fault(place, path, Problem::Owner(40001));
        let mut faults = vec![mine(Place::Directory, "/srv/a"), mine(Place::File, "/srv/a/it")];
        let said = |faults: &[Fault]| {
            sentence(faults, Path::new("/srv/a/it")).split(": run").next().map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(said(&faults), "it and the directory /srv/a are owned by user 40001, who could change them");
        faults.splice(1..1, ["/srv/b", "/srv/c", "/srv/d"].map(|path| mine(Place::Directory, path)));
        let expected =
            "it and the directories /srv/a, /srv/b and 2 more are owned by user 40001, who could change them";
        assert_eq!(said(&faults), expected);
        assert_eq!(command(&faults), "chown root: /srv/a /srv/b /srv/c /srv/d /srv/a/it");
    }

    #[test]
    fn names_come_from_the_system_s_files() {
        let users = Users {
            users: "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nnul:x:1001:1:::\n"
                .to_owned(),
            groups: "kvm:x:104:alice\n".to_owned(),
        };
        assert_eq!((users.user(1000), users.user(7)), ("user alice".to_owned(), "user 7".to_owned()));
        assert_eq!((users.group(104), users.group(0)), ("group kvm".to_owned(), "group 0".to_owned()));
        assert_eq!((users.home(1000), users.home(1001)), (Some(Path::new("/home/alice")), None));
    }

    /// The command would lock the user out of the directory.
    #[test]
    fn a_home_directory_stays_its_user_s() -> std::io::Result<()> {
        let hooks = tempfile::tempdir()?;
        let hook = hooks.path().join("qemu");
        std::os::unix::fs::symlink("/home/alice/qemu", &hook)?;
        let users = Users { users: "alice:x:40001:40001::/home/alice:/bin/sh\n".to_owned(), groups: String::new() };
        let faults = [
            fault(Place::Directory, "/home/alice", Problem::Owner(40001)),
            fault(Place::File, "/home/alice/qemu", Problem::Owner(40001)),
        ];
        let hook_name = hook.display();
        assert_eq!(
            words(&faults, &hook, &users),
            format!(
                "the directory /home/alice and the file /home/alice/qemu are owned by user alice, who could change them: \
                 /home/alice is the home directory of user alice, so use a copy of the file: run `cp --remove-destination \
                 /home/alice/qemu {hook_name}` if you trust it"
            )
        );
        assert!(
            words(&faults, Path::new("/home/alice/qemu"), &users)
                .ends_with("move what hooks need to a directory of root's")
        );
        Ok(())
    }
}
