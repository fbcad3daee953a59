//! Checks the document that a filter hook writes.

use std::fmt;
use std::sync::Arc;

use serde::de::IgnoredAny;

type Check = dyn Fn(&[u8]) -> Result<(), String> + Send + Sync;

/// The format that a filter hook's document must have. A hook that writes anything else fails.
#[derive(Clone)]
#[non_exhaustive]
pub enum DocumentFormat {
    /// Well-formed XML in UTF-8, without a document type: what libvirt itself writes and reads.
    Xml,
    /// One JSON value in UTF-8.
    Json,
    /// A format that a function of the host checks; see [`DocumentFormat::custom`].
    Custom(Arc<Check>),
}

impl DocumentFormat {
    /// Accepts documents that this function accepts. Its error says what is wrong and appears in the report.
    ///
    /// ```
    /// use hookvisor::DocumentFormat;
    ///
    /// let format = DocumentFormat::custom(|document| match document.starts_with(b"#cloud-config") {
    ///     true => Ok(()),
    ///     false => Err("the first line must be #cloud-config".to_owned()),
    /// });
    /// # drop(format);
    /// ```
    pub fn custom(accepts: impl Fn(&[u8]) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(accepts))
    }

    /// Whether this stands for "leave the document as it was". libvirt ignores output that is only white space
    /// (`virStringIsEmpty`), so that a stray `echo` does not break a migration.
    pub(crate) fn is_empty(&self, document: &[u8]) -> bool {
        match self {
            Self::Xml | Self::Json => document.trim_ascii().is_empty(),
            Self::Custom(_) => document.is_empty(),
        }
    }

    /// Why these bytes are not such a document, as a fragment after "was refused: ".
    pub(crate) fn refuse(&self, document: &[u8]) -> Result<(), String> {
        let text = |name: &str| {
            str::from_utf8(document)
                .map_err(|e| format!("its output is not {name}: byte {} is not UTF-8", e.valid_up_to() + 1))
        };
        match self {
            Self::Xml => match roxmltree::Document::parse(text("XML")?) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("its output is not XML: {error}")),
            },
            Self::Json => match serde_json::from_str::<IgnoredAny>(text("JSON")?) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("its output is not JSON: {error}")),
            },
            Self::Custom(accepts) => accepts(document),
        }
    }
}

impl fmt::Debug for DocumentFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xml => "Xml",
            Self::Json => "Json",
            Self::Custom(_) => "Custom",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::DocumentFormat;

    #[test]
    fn libvirts_documents_and_what_a_hook_makes_of_them_are_xml() {
        let domain = "<domain type='kvm' xmlns:a='urn:a'>\n  <a:owner>x &amp; y</a:owner>\n</domain>\n";
        for document in [domain, "<domain/>", "\u{feff}<?xml version='1.0' encoding='UTF-8'?><domain/>"] {
            assert_eq!(DocumentFormat::Xml.refuse(document.as_bytes()), Ok(()), "{document}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused_with_its_place() {
        let why = |document: &[u8]| DocumentFormat::Xml.refuse(document).err().unwrap_or_default();
        assert_eq!(why(b"no XML"), "its output is not XML: unknown token at 1:1");
        assert_eq!(why(b"<domain>\xff</domain>"), "its output is not XML: byte 9 is not UTF-8");
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
            assert!(why(document.as_bytes()).starts_with("its output is not XML: "), "{document}");
        }
    }

    #[test]
    fn a_deeply_nested_document_is_refused_safely() {
        let (open, close) = ("<a>".repeat(1 << 20), "</a>".repeat(1 << 20));
        assert!(DocumentFormat::Xml.refuse(open.as_bytes()).is_err());
        let _either_way = DocumentFormat::Xml.refuse((open + &close).as_bytes());
    }

    #[test]
    fn json_is_one_value_of_any_depth() {
        let why = |document: &[u8]| DocumentFormat::Json.refuse(document).err().unwrap_or_default();
        for document in ["{\"memory\": 512}\n", "[]", "null"] {
            assert_eq!(why(document.as_bytes()), "", "{document}");
        }
        for document in ["{", "{} {}", "{'a': 1}", "debug: here\n{}", "{\"a\": 1,}"] {
            assert!(why(document.as_bytes()).starts_with("its output is not JSON: "), "{document}");
        }
        assert_eq!(why(b"\"\xff\""), "its output is not JSON: byte 2 is not UTF-8");
        let (open, close) = ("[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(DocumentFormat::Json.refuse(open.as_bytes()).is_err());
        let _either_way = DocumentFormat::Json.refuse((open + &close).as_bytes());
    }

    #[test]
    fn a_function_of_the_host_decides_and_white_space_is_a_document_for_it() {
        let even = DocumentFormat::custom(|document| {
            if document.len().is_multiple_of(2) { Ok(()) } else { Err("its length is odd".to_owned()) }
        });
        assert_eq!((even.refuse(b"ab"), even.refuse(b"abc")), (Ok(()), Err("its length is odd".to_owned())));
        assert!(even.is_empty(b"") && !even.is_empty(b" "));
    }

    #[test]
    fn white_space_leaves_the_document_as_it_was() {
        assert!(
            DocumentFormat::Xml.is_empty(b"")
                && DocumentFormat::Xml.is_empty(b" \n")
                && !DocumentFormat::Xml.is_empty(b"<a/>")
        );
    }
}
