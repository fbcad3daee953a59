//! What a filter's hook may hand on as the event's document.

/// What a document must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Well-formed XML in UTF-8, without a document type: what libvirt itself writes and reads.
    Xml,
}

impl Format {
    /// Whether this stands for "leave the document as it was". libvirt passes over output that is only white space
    /// (`virStringIsEmpty`), so that a stray `echo` does not break a migration.
    pub(crate) fn is_empty(self, document: &[u8]) -> bool {
        match self {
            Self::Xml => document.trim_ascii().is_empty(),
        }
    }

    /// Why these bytes are no such document, as a sentence's end that fits "was refused: …".
    pub(crate) fn refuse(self, document: &[u8]) -> Result<(), String> {
        match self {
            Self::Xml => {
                let text = str::from_utf8(document)
                    .map_err(|e| format!("what it wrote is not XML: byte {} is not UTF-8", e.valid_up_to() + 1))?;
                match roxmltree::Document::parse(text) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(format!("what it wrote is not XML: {error}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn libvirts_documents_and_what_a_hook_makes_of_them_are_xml() {
        let domain = "<domain type='kvm' xmlns:a='urn:a'>\n  <a:owner>x &amp; y</a:owner>\n</domain>\n";
        for document in [domain, "<domain/>", "\u{feff}<?xml version='1.0' encoding='UTF-8'?><domain/>"] {
            assert_eq!(Format::Xml.refuse(document.as_bytes()), Ok(()), "{document}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused_with_its_place() {
        let why = |document: &[u8]| Format::Xml.refuse(document).err().unwrap_or_default();
        assert_eq!(why(b"no XML"), "what it wrote is not XML: unknown token at 1:1");
        assert_eq!(why(b"<domain>\xff</domain>"), "what it wrote is not XML: byte 9 is not UTF-8");
        for document in [
            "debug: here\n<domain/>",
            "<domain>",
            "<domain></domian>",
            "<a/><b/>",
            "<a b='1' b='2'/>",
            "<a>&nosuch;</a>",
            "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            "<domain/>\0",
        ] {
            assert!(why(document.as_bytes()).starts_with("what it wrote is not XML: "), "{document}");
        }
    }

    #[test]
    fn a_document_nested_beyond_all_measure_ends_nothing_but_itself() {
        let (open, close) = ("<a>".repeat(1 << 20), "</a>".repeat(1 << 20));
        assert!(Format::Xml.refuse(open.as_bytes()).is_err());
        let _either_way = Format::Xml.refuse((open + &close).as_bytes());
    }

    #[test]
    fn white_space_leaves_the_document_as_it_was() {
        assert!(Format::Xml.is_empty(b"") && Format::Xml.is_empty(b" \n") && !Format::Xml.is_empty(b"<a/>"));
    }
}
