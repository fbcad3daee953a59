//! The event's names in grants.

/// The event's names, which patterns can refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) object: &'a str,
    pub(crate) operation: &'a str,
}

/// A single pass, so that a name that looks like a placeholder is not replaced.
pub(super) fn substitute(text: &str, names: Names<'_>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let (placeholder, value) = [("{object}", names.object), ("{operation}", names.operation)]
            .into_iter()
            .find(|(placeholder, _)| rest.starts_with(placeholder))
            .unwrap_or(("{", "{"));
        result.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    result + rest
}
