//! The hooks of OCI container runtimes (runtime-spec, "POSIX-platform Hooks") and podman's `precreate`.

use super::rules::{Convention, Operation};
use crate::document::DocumentFormat;

/// The operations that run where hookvisor cannot be reached.
const INSIDE: &str =
    "it runs inside the container's namespaces, where hookvisor and its hooks are not reachable: use createRuntime";

pub(super) fn convention() -> Convention {
    Convention::new("oci")
        .operation("precreate", Operation::filter(DocumentFormat::Json))
        .operation("prestart", Operation::start())
        .operation("createRuntime", Operation::start())
        .operation("createContainer", Operation::refused(INSIDE))
        .operation("startContainer", Operation::refused(INSIDE))
        .operation("poststart", Operation::start())
        .operation("poststop", Operation::shutdown())
        .ended_by("poststop")
        .closed()
}

#[cfg(test)]
mod tests {
    use super::convention;
    use crate::stage::Stage;

    #[test]
    fn its_operations_are_those_of_the_runtime_specification() {
        let oci = convention();
        for operation in ["precreate", "prestart", "createRuntime", "poststart"] {
            assert_eq!((oci.check(operation), oci.rule(operation).stage), (Ok(()), Stage::Start), "{operation}");
            assert_eq!(oci.rule(operation).filter.is_some(), operation == "precreate");
        }
        assert_eq!((oci.check("poststop"), oci.rule("poststop").stage), (Ok(()), Stage::Shutdown));
        let why = |operation| oci.check(operation).err().map(|error| error.to_string());
        assert_eq!(
            why("startContainer").as_deref(),
            Some(
                "driver oci has no operation \"startContainer\": it runs inside the container's namespaces, where hookvisor and \
                 its hooks are not reachable: use createRuntime"
            )
        );
        assert_eq!(
            why("create").as_deref(),
            Some(
                "driver oci has no operation \"create\": its operations are precreate, prestart, createRuntime, createContainer, \
                 startContainer, poststart, poststop"
            )
        );
    }
}
