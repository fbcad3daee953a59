//! The man pages: section 1 from the command line, the others from Markdown.

mod markdown;

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The pages written by hand: `docs/man/NAME.SECTION.md`.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/man");
/// How a page's last paragraphs may begin, and the section that each becomes.
const SECTIONS: [(&str, &str); 4] = [
    ("Exit status:", "EXIT STATUS"),
    ("Environment:", "ENVIRONMENT"),
    ("Example:", "EXAMPLES"),
    ("Examples:", "EXAMPLES"),
];

pub(crate) fn write(mut command: Command, directory: &Path) -> anyhow::Result<()> {
    command.build();
    let by_hand = by_hand(directory)?;
    of_command(&command, &by_hand, directory)
}

/// Generates the pages from Markdown, and returns their names, such as `hookvisor.toml(5)`.
fn by_hand(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut sources: Vec<_> = fs::read_dir(SOURCES).context(SOURCES)?.collect::<Result<_, _>>()?;
    sources.sort_by_key(fs::DirEntry::file_name);
    for source in sources {
        let file = source.file_name();
        let page = file.to_str().and_then(|file| file.strip_suffix(".md"));
        let page = page.with_context(|| format!("{file:?} in {SOURCES} is no NAME.SECTION.md"))?;
        let (name, section) = page.rsplit_once('.').with_context(|| format!("{file:?} has no section"))?;
        let text = markdown::to_roff(name, section, &fs::read_to_string(source.path())?);
        save(&directory.join(page), text.as_bytes())?;
        names.push(format!("{name}({section})"));
    }
    ensure!(!names.is_empty(), "no page in {SOURCES}");
    Ok(names)
}

/// The page of a subcommand, and of its own subcommands.
fn of_command(command: &Command, see_also: &[String], directory: &Path) -> anyhow::Result<()> {
    let subcommands = || command.get_subcommands().filter(|sub| !sub.is_hide_set());
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("hookvisor ", env!("CARGO_PKG_VERSION")))
        .manual("hookvisor");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    let section_of = |text: &str| SECTIONS.iter().find(|(begins, _)| text.starts_with(begins));
    let (description, sections): (Vec<_>, Vec<_>) =
        after.split("\n\n").filter(|text| !text.trim().is_empty()).partition(|text| section_of(text).is_none());
    Roff::new().paragraphs(&description).to_writer(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if subcommands().next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    for text in sections {
        if let Some((begins, section)) = section_of(text) {
            let text = text.trim_start_matches(begins).trim_start();
            rest.control("SH", [*section]);
            if *section == "EXAMPLES" {
                rest.example(text)
            } else {
                rest.paragraphs(&[&sentence(text)])
            };
        }
    }
    rest.control("SH", ["SEE ALSO"]);
    let parent = name.rsplit_once('-').map(|(parent, _)| format!("{parent}(1)"));
    let below = subcommands().map(|sub| format!("{name}-{}(1)", sub.get_name()));
    let names: Vec<String> = parent.into_iter().chain(below).chain(see_also.iter().cloned()).collect();
    rest.references(&names).to_writer(&mut page)?;
    save(&directory.join(format!("{name}.1")), &page)?;
    subcommands().try_for_each(|subcommand| of_command(subcommand, see_also, directory))
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

fn save(path: &Path, page: &[u8]) -> anyhow::Result<()> {
    fs::write(path, page).with_context(|| format!("{} could not be written", path.display()))
}

/// The Markdown elements that the pages use.
trait Page {
    fn paragraphs(&mut self, texts: &[&str]) -> &mut Self;
    fn example(&mut self, text: &str) -> &mut Self;
    fn references(&mut self, names: &[String]) -> &mut Self;
}

impl Page for Roff {
    fn paragraphs(&mut self, texts: &[&str]) -> &mut Self {
        for text in texts {
            self.control("PP", []).text([roman(text.trim())]);
        }
        self
    }

    fn example(&mut self, text: &str) -> &mut Self {
        self.control("EX", []);
        for line in text.lines() {
            self.text([roman(line)]);
        }
        self.control("EE", [])
    }

    fn references(&mut self, names: &[String]) -> &mut Self {
        let mut line = Vec::new();
        for name in names {
            if !line.is_empty() {
                line.push(roman(", "));
            }
            let (page, section) = name.split_once('(').unwrap_or((name, ""));
            line.extend([bold(page), roman(format!("({section}"))]);
        }
        self.text(line)
    }
}
