//! The dashboard in a real browser, over a real cluster: what it shows, that it goes on showing it, and its orders.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what was skipped and where a failure happened must be seen"
)]

mod browser;
mod common;

use browser::Browser;
use common::{Dev, json, sql};

/// A script that tells whether the page's text in `css` has `words`.
fn has(css: &str, words: &str) -> String {
    format!("return document.querySelector('{css}').innerText.includes({words:?})")
}

/// Gives the page the token, as a person does.
async fn sign_in(browser: &Browser, dev: &Dev) {
    let token = std::fs::read_to_string(dev.file().token_file).expect("a token");
    browser.click("#sign").await;
    browser.write("#ask-input", token.trim()).await;
    browser.click("#ask-yes").await;
    browser.until("to be signed in", &has("#sign", "Signed in")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_is_and_gives_orders() {
    let Some(browser) = Browser::start().await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 4);
    let api = dev.file().api;
    browser.open(&api).await;
    browser
        .until("three nodes", "return document.querySelectorAll('#nodes-body tbody tr').length === 4")
        .await;
    browser.until("a healthy cluster", &has("#status", "healthy")).await;

    // What happens shows without a reload.
    let nodes = dev.endpoints();
    sql(&nodes[0], "CREATE TABLE c:books (title text) shards='6' rf='2' timeout='120'")
        .await
        .expect("created");
    let copies =
        "return document.querySelectorAll('#map-body tr[data-table=books] td[data-is=active]').length >= 2";
    browser.until("copies on the map", copies).await;
    browser.until("the operation", &has("#operations-body", "create")).await;

    // The keyboard walks the map and opens what is under it.
    browser.run("document.querySelector('#map-body tr[data-table=books] td').focus()").await;
    browser.write("#map-body tr[data-table=books] td", "\u{E014}").await;
    browser
        .until(
            "the cell to the right",
            "return [...document.activeElement.parentElement.children].indexOf(document.activeElement) === 2",
        )
        .await;
    browser.write("#map-body tr[data-table=books] td:nth-child(3)", "\u{E007}").await;
    browser.until("the shards of a table", &has("#detail", "6 shards, rf 2")).await;

    // An order needs the token; without one nothing is sent.
    let first = nodes[0].node.to_string();
    let row = format!(
        "[...document.querySelectorAll('#nodes-body tbody tr')].find((row) => row.innerText.includes('{first}'))"
    );
    browser.run(&format!("{row}.setAttribute('id', 'first-node')")).await;
    sign_in(&browser, &dev).await;
    browser.click("#first-node button:nth-of-type(1)").await;
    browser.until("a question", "return document.getElementById('ask').open").await;
    browser.click("#ask-yes").await;
    browser.until("a drained node", &has("#first-node", "drained")).await;
    browser.click("#first-node button:nth-of-type(2)").await;
    browser.until("a node that is taken back", &has("#first-node", "active")).await;

    // A node that dies shows, in words and on the map.
    let last = nodes[3].node.to_string();
    assert!(dev.change(&["kill", &last]).status.success());
    browser.until("a lost node", &has("#nodes-body", "lost")).await;
    browser.until("an alert", &has("#alerts-body", "degraded_cluster")).await;
    browser.until("a status that says so", &has("#status", "warning")).await;

    // From a phone to a wall nothing is cut off: only tables scroll, inside.
    for (width, height) in [(360, 740), (1280, 800), (3840, 2160)] {
        browser.size(width, height).await;
        let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
        browser.until(&format!("a page that fits {width} pixels"), fits).await;
    }
    assert_eq!(browser.complaints().await, serde_json::json!([]));

    // Without the controller the page says that it knows nothing any more.
    dev.stop();
    browser.until("no word", &has("#live", "no word from the controller")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_changes_nothing_and_is_forgotten() {
    let Some(browser) = Browser::start().await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 2);
    browser.open(&dev.file().api).await;
    browser.until("two nodes", "return document.querySelectorAll('#nodes-body tbody tr').length === 2").await;
    browser.click("#sign").await;
    browser.write("#ask-input", "0000").await;
    browser.click("#ask-yes").await;
    browser.until("to be signed in", &has("#sign", "Signed in")).await;
    browser.click("#nodes-body tbody tr:first-child button:nth-of-type(1)").await;
    browser.until("a question", "return document.getElementById('ask').open").await;
    browser.click("#ask-yes").await;
    browser.until("to be signed out", &has("#sign", "Sign in")).await;
    let states = json(&dev.ask(&["node", "list"]))["nodes"].clone();
    let active = states.as_array().expect("nodes").iter().all(|node| node["state"] == "active");
    assert!(active, "{states}");
    dev.stop();
}
