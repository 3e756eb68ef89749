//! Bodies that are understood.

/// How a body is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Kind {
    Json,
    Form,
    Text,
}

impl Kind {
    /// By its media type; none for what is not understood.
    pub(in super::super) fn of(content_type: &str) -> Option<Self> {
        let essence = essence(content_type);
        if let Some((_, parameters)) = content_type.split_once(';') {
            let parameters = parameters.to_ascii_lowercase();
            let charset = parameters.split(';').find_map(|parameter| {
                let (name, value) = parameter.split_once('=')?;
                (name.trim() == "charset").then(|| value.trim().trim_matches('"').to_owned())
            });
            let ascii = ["utf-8", "utf8", "us-ascii", "iso-8859-1"];
            if charset.is_some_and(|charset| !ascii.contains(&&*charset)) {
                return None;
            }
        }
        Some(match &*essence {
            "application/json" | "text/json" => Self::Json,
            // One document after the other.
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/json-seq" => Self::Json,
            other if other.ends_with("+json") => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            "text/plain" => Self::Text,
            _ => return None,
        })
    }
}

/// A media type without its parameters.
pub(in super::super) fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}
