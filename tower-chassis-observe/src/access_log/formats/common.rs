//! The lines of NCSA httpd, which every web server writes since and every reader of logs understands.

use super::super::{
    civil::{padded, write_common},
    escape,
    line::{Line, address},
};

/// `client - user [time] "GET /path HTTP/1.1" 200 12`
pub(in super::super) fn common(line: &Line<'_>, out: &mut String) {
    address(out, line.client);
    out.push_str(" - ");
    match line.user {
        Some(user) => escape::common(out, user.as_bytes(), true),
        None => out.push('-'),
    }
    out.push_str(" [");
    write_common(out, line.time);
    out.push_str("] \"");
    escape::common(out, line.method.as_bytes(), true);
    out.push(' ');
    match line.target() {
        Some(target) => escape::common(out, target.as_bytes(), true),
        None => out.push('-'),
    }
    out.push(' ');
    out.push_str(line.protocol());
    out.push_str("\" ");
    match line.verdict.http_status() {
        Some(status) => padded(out, status.into(), 1),
        None => out.push('-'),
    }
    out.push(' ');
    padded(out, line.bytes, 1);
}

/// The same with where the client came from, without what stands behind `?`, and what it is.
pub(in super::super) fn combined(line: &Line<'_>, out: &mut String) {
    common(line, out);
    out.push_str(" \"");
    match line.referer {
        Some(referer) => {
            let referer = String::from_utf8_lossy(referer);
            escape::common(out, line.redact.address(&referer).as_bytes(), false);
        }
        None => out.push('-'),
    }
    out.push_str("\" \"");
    match line.user_agent {
        Some(agent) => escape::common(out, agent, false),
        None => out.push('-'),
    }
    out.push('"');
}
