//! The dashboard at `/`: a few files inside the binary, so that it works without a network and without a build.
//!
//! They hold no data. The page asks the API like any other client, and sends the token in a header, never in a URL or a
//! cookie: so a foreign page cannot make a browser order something.

use super::problem::{ApiError, Kind};
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name under `/assets/`, type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("page.css", "text/css; charset=utf-8", include_str!("../../web/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
    ("app.js", JAVASCRIPT, include_str!("../../web/app.js")),
    ("api.js", JAVASCRIPT, include_str!("../../web/api.js")),
    ("charts.js", JAVASCRIPT, include_str!("../../web/charts.js")),
    ("dom.js", JAVASCRIPT, include_str!("../../web/dom.js")),
    ("map.js", JAVASCRIPT, include_str!("../../web/map.js")),
    ("orders.js", JAVASCRIPT, include_str!("../../web/orders.js")),
    ("sections.js", JAVASCRIPT, include_str!("../../web/sections.js")),
];

/// Nothing from elsewhere, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(super) async fn page() -> Response {
    file(HTML, include_str!("../../web/index.html"))
}

/// `GET /assets/{file}`.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let Some((_, kind, content)) = ASSETS.iter().find(|(known, _, _)| *known == name) else {
        let detail = "the page has no such file";
        return ApiError::new(Kind::NotFound, detail, "open the page at /").into_response();
    };
    file(kind, content)
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 6] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // A newer binary must not be shown with an older one's scripts.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../web/index.html");

    #[test]
    fn the_page_names_only_what_is_served() {
        let everything: String = ASSETS.iter().map(|(_, _, content)| *content).chain([PAGE]).collect();
        for part in everything.split("/assets/").skip(1) {
            let name = part.split(['"', '\'', ')']).next().expect("a name");
            assert!(ASSETS.iter().any(|(known, _, _)| *known == name), "{name} is not served");
        }
        for part in everything.split("from \"./").skip(1) {
            let name = part.split('"').next().expect("a name");
            assert!(ASSETS.iter().any(|(known, _, _)| *known == name), "{name} is not served");
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.contains(" onclick="));
        assert!(
            PAGE.matches("<script").count() == 1 && PAGE.contains("<script type=\"module\" src=\"/assets/")
        );
        for (name, _, content) in ASSETS.iter().chain([&("index.html", HTML, PAGE)]) {
            let foreign = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{name}");
            for way_in in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!content.contains(way_in), "{name} makes markup of text by {way_in}");
            }
        }
    }
}
