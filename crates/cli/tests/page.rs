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

/// Puts 50 nodes and 200 tables of 500 copies each in the place of what the controller has, all else is the controller's.
/// With each question the copies on other nodes are pending; `pressed` collects how long keys took to show, `held` for
/// how long the page did nothing else.
const CROWD: &str = "const asked = window.fetch.bind(window);
    const nodes = [...Array(50).keys()].map((n) => `10.0.0.${n + 1}:9308`);
    const names = [...Array(200).keys()].map((n) => `table_${n}`);
    window.turn = 0;
    window.held = [];
    window.pressed = [];
    new PerformanceObserver((list) => held.push(...list.getEntries().map((e) => e.duration))).observe({ type: 'longtask' });
    new PerformanceObserver((list) => pressed.push(...list.getEntries().map((e) => e.duration)))
        .observe({ type: 'event', durationThreshold: 16 });
    const made = {
        map: () => {
            turn += 1;
            const cell = (n) => ({ node: n, active: n % 7 === turn % 7 ? 9 : 10, pending: n % 7 === turn % 7 ? 1 : 0, inactive: 0 });
            return { nodes, tables: names.map((name) =>
                ({ name, shards: 500, rf: 1, rf_status: 'ok', cells: nodes.map((_, n) => cell(n)) })) };
        },
        nodes: (answer) => ({ ...answer, nodes: nodes.map((id) => ({ ...answer.nodes[0], id })) }),
    };
    window.fetch = async (url, options) => {
        const answer = await asked(url, options);
        const make = made[String(url).split('/api/v1/')[1]];
        return make && answer.ok ? Response.json(make(await answer.json())) : answer;
    };";

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_tables_on_fifty_nodes_are_shown_whole() {
    let Some(browser) = Browser::start().await else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let dev = Dev::start(dir.path(), 2);
    browser.before_pages(CROWD).await;
    browser.open(&dev.file().api).await;
    let cells = "return document.querySelectorAll('#map-body tbody td[data-is]').length === 10000";
    browser.until("all cells", cells).await;
    browser
        .until("all nodes", "return document.querySelectorAll('#nodes-body tbody tr').length === 50")
        .await;
    let shown = "const [row] = document.querySelectorAll('#map-body tbody tr');
        const pending = row.querySelectorAll('td[data-is=pending]').length;
        return turn > window.before && pending >= 7 && pending <= 8";
    println!("ms held when drawn the first time: {}", browser.run("return held.splice(0)").await);
    for _ in 0..5 {
        browser.run("window.before = turn; document.dispatchEvent(new Event('visibilitychange'))").await;
        browser.until("what is so now", shown).await;
    }
    println!("ms held by five times 10,000 cells: {}", browser.run("return held.splice(0)").await);

    let first = "#map-body tr[data-table=table_0] td";
    browser.run(&format!("document.querySelector('{first}').focus()")).await;
    // To the last node, and ten tables down.
    browser.write(first, &format!("\u{E010}{}", "\u{E015}".repeat(10))).await;
    let there = "return document.activeElement.title.startsWith('table_10 on 10.0.0.50:9308:')";
    browser.until("the cell of that table on that node", there).await;

    browser.write("#map-filter", "table_19").await;
    let filtered = "return document.querySelectorAll('#map-body tbody tr').length === 11";
    browser.until("what was asked for", filtered).await;
    println!(
        "filtered: {}; {}",
        browser.run("return pressed.splice(0)").await,
        browser.run("return held").await
    );
    for (width, height) in [(360, 740), (3840, 2160)] {
        browser.size(width, height).await;
        let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
        browser.until(&format!("a page that fits {width} pixels"), fits).await;
    }
    assert_eq!(browser.complaints().await, serde_json::json!([]));
    dev.stop();
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
