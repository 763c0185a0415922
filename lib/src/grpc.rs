//! What are gRPC's statuses called?
//!
//! Source: `grpc/status.h`; names in camel case as Envoy's `grpc/status.cc` has them.

/// The names of the statuses by number, in camel case and in capitals.
const STATUSES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// The names of a status in camel case and in capitals; `None` for a number that has none.
pub(crate) fn status_names(number: u32) -> Option<(&'static str, &'static str)> {
    STATUSES.get(usize::try_from(number).ok()?).copied()
}

/// The number of a status by its name in capitals.
pub(crate) fn status_number(name: &str) -> Option<u32> {
    (0..).zip(STATUSES).find_map(|(number, (_, own))| (own == name).then_some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_statuses_belong_together() {
        for number in 0..17 {
            let (_, name) = status_names(number).unwrap();
            assert_eq!(status_number(name), Some(number));
        }
        assert_eq!((status_number("UNAUTHENTICATED"), status_number("ok")), (Some(16), None));
        assert_eq!(status_names(17), None);
    }
}
