//! Converts the Markdown of the hand-written pages to roff: headings, paragraphs, lists, definitions, code.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// The man font of a piece of text.
#[derive(Clone, Copy)]
enum Font {
    Roman,
    Bold,
    Italic,
}

struct Page {
    roff: Roff,
    line: Vec<Inline>,
    font: Font,
    /// Inside a list item or a definition, where a paragraph stays indented.
    in_item: bool,
    in_code: bool,
}

/// A page. Its first heading is the text after the name in NAME.
pub(super) fn to_roff(name: &str, section: &str, markdown: &str) -> String {
    let mut roff = Roff::new();
    let version = concat!("hookvisor ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [name.to_uppercase().as_str(), section, "", version, "hookvisor"]).control("SH", ["NAME"]);
    let mut page =
        Page { roff, line: vec![roman(format!("{name} - "))], font: Font::Roman, in_item: false, in_code: false };
    for event in Parser::new_ext(markdown, Options::ENABLE_DEFINITION_LIST) {
        page.event(event);
    }
    page.roff.to_roff()
}

impl Page {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.in_code => {
                for line in text.lines() {
                    self.roff.text([roman(line)]);
                }
            }
            Event::Text(text) => self.line.push(match self.font {
                Font::Roman => roman(&*text),
                Font::Bold => bold(&*text),
                Font::Italic => italic(&*text),
            }),
            Event::Code(text) => self.line.push(bold(&*text)),
            Event::SoftBreak | Event::HardBreak => self.line.push(roman(" ")),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph if !self.in_item => {
                self.roff.control("PP", []);
            }
            Tag::CodeBlock(_) => {
                self.flush();
                self.in_code = true;
                self.roff.control("PP", []).control("RS", ["4"]).control("EX", []);
            }
            Tag::Item => {
                self.in_item = true;
                self.roff.control("IP", ["\\(bu", "2"]);
            }
            Tag::DefinitionListTitle => {
                self.roff.control("TP", []);
            }
            Tag::DefinitionListDefinition => self.in_item = true,
            Tag::Strong => self.font = Font::Bold,
            Tag::Emphasis => self.font = Font::Italic,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(HeadingLevel::H1) | TagEnd::Paragraph | TagEnd::DefinitionListTitle => self.flush(),
            TagEnd::Heading(level) => {
                let heading = if level == HeadingLevel::H2 { "SH" } else { "SS" };
                let text = self.line.drain(..).map(|inline| text_of(&inline).to_owned()).collect::<String>();
                let text = if level == HeadingLevel::H2 { text.to_uppercase() } else { text };
                self.roff.control(heading, [text.as_str()]);
            }
            TagEnd::CodeBlock => {
                self.in_code = false;
                self.roff.control("EE", []).control("RE", []);
            }
            TagEnd::Item | TagEnd::DefinitionListDefinition => {
                self.flush();
                self.in_item = false;
            }
            TagEnd::Strong | TagEnd::Emphasis => self.font = Font::Roman,
            _ => {}
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.roff.text(std::mem::take(&mut self.line));
        }
    }
}

fn text_of(inline: &Inline) -> &str {
    match inline {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => text,
        Inline::LineBreak => " ",
    }
}
