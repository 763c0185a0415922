//! Which fields have the messages that are read and written as protobuf text?
//!
//! `envoy: config/route/v3/route_components.proto, type/matcher/v3/*.proto, test/tools/router_check/validation.proto`. Invariant: the
//! fields of a message stand in the order of their numbers, which is the order that they are written in.

/// A type of messages.
#[derive(Debug)]
pub(super) struct Message {
    /// Its name, as errors say it.
    pub(super) name: &'static str,
    /// Its fields.
    pub(super) fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// How often it is there.
    pub(super) label: Label,
}

/// How often a field is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Once or never, and its default is the same as never.
    Plain,
    /// Once or never, and its default is a value like others: one of fields that exclude each other.
    OneOf,
    /// Any number of times.
    Repeated,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A truth value.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A name, of which the first is the default.
    Enum(&'static [&'static str]),
    /// A message.
    Message(&'static Message),
    /// A message around one scalar, which JSON writes without it: `google.protobuf.StringValue` and the like.
    Wrapper(&'static Message),
    /// `google.protobuf.Struct`, which JSON writes as an object.
    Struct,
}

const fn plain(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::Plain }
}

const fn one_of(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, label: Label::OneOf }
}

const fn repeated(name: &'static str, message: &'static Message) -> Field {
    Field { name, kind: Kind::Message(message), label: Label::Repeated }
}

static STRING_VALUE: Message =
    Message { name: "google.protobuf.StringValue", fields: &[plain("value", Kind::Text)] };

static BOOL_VALUE: Message =
    Message { name: "google.protobuf.BoolValue", fields: &[plain("value", Kind::Bool)] };

static UINT32_VALUE: Message =
    Message { name: "google.protobuf.UInt32Value", fields: &[plain("value", Kind::Integer)] };

static DURATION: Message = Message {
    name: "google.protobuf.Duration",
    fields: &[plain("seconds", Kind::Integer), plain("nanos", Kind::Integer)],
};

/// `google.protobuf.Struct`.
pub(super) static STRUCT: Message =
    Message { name: "google.protobuf.Struct", fields: &[repeated("fields", &STRUCT_ENTRY)] };

static STRUCT_ENTRY: Message = Message {
    name: "google.protobuf.Struct.FieldsEntry",
    fields: &[plain("key", Kind::Text), plain("value", Kind::Message(&STRUCT_VALUE))],
};

static STRUCT_VALUE: Message = Message {
    name: "google.protobuf.Value",
    fields: &[
        one_of("null_value", Kind::Enum(&["NULL_VALUE"])),
        one_of("number_value", Kind::Number),
        one_of("string_value", Kind::Text),
        one_of("bool_value", Kind::Bool),
        one_of("struct_value", Kind::Message(&STRUCT)),
        one_of("list_value", Kind::Message(&LIST_VALUE)),
    ],
};

static LIST_VALUE: Message =
    Message { name: "google.protobuf.ListValue", fields: &[repeated("values", &STRUCT_VALUE)] };

static GOOGLE_RE2: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatcher.GoogleRE2",
    fields: &[plain("max_program_size", Kind::Wrapper(&UINT32_VALUE))],
};

static REGEX_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatcher",
    fields: &[one_of("google_re2", Kind::Message(&GOOGLE_RE2)), plain("regex", Kind::Text)],
};

static STRING_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.StringMatcher",
    fields: &[
        one_of("exact", Kind::Text),
        one_of("prefix", Kind::Text),
        one_of("suffix", Kind::Text),
        one_of("safe_regex", Kind::Message(&REGEX_MATCHER)),
        plain("ignore_case", Kind::Bool),
        one_of("contains", Kind::Text),
    ],
};

static INT64_RANGE: Message = Message {
    name: "envoy.type.v3.Int64Range",
    fields: &[plain("start", Kind::Integer), plain("end", Kind::Integer)],
};

static HEADER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.HeaderMatcher",
    fields: &[
        plain("name", Kind::Text),
        one_of("exact_match", Kind::Text),
        one_of("range_match", Kind::Message(&INT64_RANGE)),
        one_of("present_match", Kind::Bool),
        plain("invert_match", Kind::Bool),
        one_of("prefix_match", Kind::Text),
        one_of("suffix_match", Kind::Text),
        one_of("safe_regex_match", Kind::Message(&REGEX_MATCHER)),
        one_of("contains_match", Kind::Text),
        one_of("string_match", Kind::Message(&STRING_MATCHER)),
        plain("treat_missing_header_as_empty", Kind::Bool),
    ],
};

static QUERY_PARAMETER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.QueryParameterMatcher",
    fields: &[
        plain("name", Kind::Text),
        one_of("string_match", Kind::Message(&STRING_MATCHER)),
        one_of("present_match", Kind::Bool),
    ],
};

static PATH_SEGMENT: Message = Message {
    name: "envoy.type.matcher.v3.MetadataMatcher.PathSegment",
    fields: &[one_of("key", Kind::Text)],
};

static EMPTY: Message = Message { name: "google.protobuf.Empty", fields: &[] };

static DOUBLE_RANGE: Message = Message {
    name: "envoy.type.v3.DoubleRange",
    fields: &[plain("start", Kind::Number), plain("end", Kind::Number)],
};

static DOUBLE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.DoubleMatcher",
    fields: &[one_of("range", Kind::Message(&DOUBLE_RANGE)), one_of("exact", Kind::Number)],
};

static LIST_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.ListMatcher",
    fields: &[one_of("one_of", Kind::Message(&VALUE_MATCHER))],
};

static OR_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.OrMatcher",
    fields: &[repeated("value_matchers", &VALUE_MATCHER)],
};

static VALUE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.ValueMatcher",
    fields: &[
        one_of("null_match", Kind::Message(&EMPTY)),
        one_of("double_match", Kind::Message(&DOUBLE_MATCHER)),
        one_of("string_match", Kind::Message(&STRING_MATCHER)),
        one_of("bool_match", Kind::Bool),
        one_of("present_match", Kind::Bool),
        one_of("list_match", Kind::Message(&LIST_MATCHER)),
        one_of("or_match", Kind::Message(&OR_MATCHER)),
    ],
};

static COOKIE_MATCHER: Message = Message {
    name: "envoy.config.route.v3.CookieMatcher",
    fields: &[
        plain("name", Kind::Text),
        one_of("string_match", Kind::Message(&STRING_MATCHER)),
        one_of("range_match", Kind::Message(&INT64_RANGE)),
        one_of("present_match", Kind::Bool),
        plain("invert_match", Kind::Bool),
        plain("treat_missing_as_empty", Kind::Bool),
    ],
};

static FILTER_STATE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.FilterStateMatcher",
    fields: &[plain("key", Kind::Text), one_of("string_match", Kind::Message(&STRING_MATCHER))],
};

static TLS_CONTEXT: Message = Message {
    name: "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions",
    fields: &[plain("presented", Kind::Wrapper(&BOOL_VALUE)), plain("validated", Kind::Wrapper(&BOOL_VALUE))],
};

static CONNECT_MATCHER: Message =
    Message { name: "envoy.config.route.v3.RouteMatch.ConnectMatcher", fields: &[] };

static METADATA_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.MetadataMatcher",
    fields: &[
        plain("filter", Kind::Text),
        repeated("path", &PATH_SEGMENT),
        plain("value", Kind::Message(&VALUE_MATCHER)),
        plain("invert", Kind::Bool),
    ],
};

static FRACTIONAL_PERCENT: Message = Message {
    name: "envoy.type.v3.FractionalPercent",
    fields: &[
        plain("numerator", Kind::Integer),
        plain("denominator", Kind::Enum(&["HUNDRED", "TEN_THOUSAND", "MILLION"])),
    ],
};

static RUNTIME_FRACTIONAL_PERCENT: Message = Message {
    name: "envoy.config.core.v3.RuntimeFractionalPercent",
    fields: &[plain("default_value", Kind::Message(&FRACTIONAL_PERCENT)), plain("runtime_key", Kind::Text)],
};

static GRPC_ROUTE_MATCH_OPTIONS: Message =
    Message { name: "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", fields: &[] };

/// The conditions of a route.
pub(super) static ROUTE_MATCH: Message = Message {
    name: "envoy.config.route.v3.RouteMatch",
    fields: &[
        one_of("prefix", Kind::Text),
        one_of("path", Kind::Text),
        plain("case_sensitive", Kind::Wrapper(&BOOL_VALUE)),
        repeated("headers", &HEADER_MATCHER),
        repeated("query_parameters", &QUERY_PARAMETER_MATCHER),
        plain("grpc", Kind::Message(&GRPC_ROUTE_MATCH_OPTIONS)),
        plain("runtime_fraction", Kind::Message(&RUNTIME_FRACTIONAL_PERCENT)),
        one_of("safe_regex", Kind::Message(&REGEX_MATCHER)),
        plain("tls_context", Kind::Message(&TLS_CONTEXT)),
        one_of("connect_matcher", Kind::Message(&CONNECT_MATCHER)),
        repeated("dynamic_metadata", &METADATA_MATCHER),
        one_of("path_separated_prefix", Kind::Text),
        repeated("filter_state", &FILTER_STATE_MATCHER),
        repeated("cookies", &COOKIE_MATCHER),
    ],
};

static HEADER_VALUE: Message = Message {
    name: "envoy.config.core.v3.HeaderValue",
    fields: &[plain("key", Kind::Text), plain("value", Kind::Text)],
};

static SET_METADATA: Message = Message {
    name: "envoy.extensions.filters.http.set_metadata.v3.Config",
    fields: &[
        plain("metadata_namespace", Kind::Text),
        plain("value", Kind::Struct),
        plain("allow_overwrite", Kind::Bool),
    ],
};

static VALIDATION_INPUT: Message = Message {
    name: "envoy.RouterCheckToolSchema.ValidationInput",
    fields: &[
        plain("authority", Kind::Text),
        plain("path", Kind::Text),
        plain("method", Kind::Text),
        plain("random_value", Kind::Integer),
        plain("ssl", Kind::Bool),
        plain("internal", Kind::Bool),
        plain("runtime", Kind::Text),
        repeated("additional_request_headers", &HEADER_VALUE),
        repeated("additional_response_headers", &HEADER_VALUE),
        repeated("dynamic_metadata", &SET_METADATA),
    ],
};

static ROUTE_METADATA: Message = Message {
    name: "envoy.RouterCheckToolSchema.RouteMetadata",
    fields: &[plain("namespace", Kind::Text), plain("key", Kind::Text), plain("value", Kind::Text)],
};

static VALIDATION_ASSERT: Message = Message {
    name: "envoy.RouterCheckToolSchema.ValidationAssert",
    fields: &[
        plain("cluster_name", Kind::Wrapper(&STRING_VALUE)),
        plain("virtual_cluster_name", Kind::Wrapper(&STRING_VALUE)),
        plain("virtual_host_name", Kind::Wrapper(&STRING_VALUE)),
        plain("host_rewrite", Kind::Wrapper(&STRING_VALUE)),
        plain("path_rewrite", Kind::Wrapper(&STRING_VALUE)),
        plain("path_redirect", Kind::Wrapper(&STRING_VALUE)),
        plain("code_redirect", Kind::Wrapper(&UINT32_VALUE)),
        repeated("request_header_fields", &HEADER_VALUE),
        repeated("response_header_fields", &HEADER_VALUE),
        repeated("request_header_matches", &HEADER_MATCHER),
        repeated("response_header_matches", &HEADER_MATCHER),
        plain("timeout", Kind::Message(&DURATION)),
        repeated("route_metadata", &ROUTE_METADATA),
    ],
};

static VALIDATION_ITEM: Message = Message {
    name: "envoy.RouterCheckToolSchema.ValidationItem",
    fields: &[
        plain("test_name", Kind::Text),
        plain("input", Kind::Message(&VALIDATION_INPUT)),
        plain("validate", Kind::Message(&VALIDATION_ASSERT)),
    ],
};

/// The tests of a route table.
pub(super) static VALIDATION: Message = Message {
    name: "envoy.RouterCheckToolSchema.Validation",
    fields: &[repeated("tests", &VALIDATION_ITEM)],
};
