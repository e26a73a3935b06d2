//! Everyone can use it: labels, contrast, the keyboard, small windows, both themes.

use std::collections::BTreeMap;

use warmq_tests::System;

use super::browser::Browser;
use super::{PHONE, WIDE};

const TOKENS: &str = include_str!("../../../router/src/dashboard/assets/tokens.css");

/// Every view of the navigation.
const VIEWS: [&str; 9] = [
    "overview", "fleet", "queues", "jobs", "dead", "apps", "submit", "usage", "keys",
];

/// Texts on their backgrounds.
const PAIRS: [(&str, &str); 14] = [
    ("text", "page"),
    ("text", "panel"),
    ("text", "sunken"),
    ("text-soft", "page"),
    ("text-soft", "panel"),
    ("text-soft", "sunken"),
    ("accent", "accent-soft"),
    ("on-accent", "accent"),
    ("good", "good-soft"),
    ("busy", "busy-soft"),
    ("warn", "warn-soft"),
    ("bad", "bad-soft"),
    ("calm", "calm-soft"),
    ("busy", "panel"),
];

/// Returns the colours of a block of declarations.
fn colours(block: &str) -> BTreeMap<&str, [f64; 3]> {
    let declared = block
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"));
    let colours = declared.filter_map(|line| {
        let (name, value) = line.split_once(": #")?;
        let value = u32::from_str_radix(value.get(..6)?, 16).ok()?;
        let channel = |shift: u32| f64::from((value >> shift) & 255) / 255.0;
        Some((name, [channel(16), channel(8), channel(0)]))
    });
    colours.collect()
}

/// Returns the contrast ratio of WCAG 2.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let linear = colour.map(|value| match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn texts_contrast_with_their_backgrounds_in_both_themes() {
    let (light, dark) = TOKENS.split_once("[data-theme=\"dark\"]").unwrap();
    for (theme, colours) in [("light", colours(light)), ("dark", colours(dark))] {
        for (text, background) in PAIRS {
            let ratio = contrast(colours[text], colours[background]);
            assert!(ratio >= 4.5, "{theme}: {text} on {background}: {ratio:.2}");
        }
    }
}

#[tokio::test]
async fn every_view_has_labels_and_fits_into_a_phone() {
    let system = System::with_config("[apps.'bench/timed']\n[routes.'acme/ab']\nkind = 'split'\nto = [{ app = 'bench/timed', weight = 1 }]\n").await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    let browser = Browser::open(&system, PHONE).await;
    for view in VIEWS {
        browser.view(view).await;
        browser.holds("the view is there", "return !!document.querySelector('main h1') && !document.querySelector('.skeleton')").await;
        let unlabelled = browser
            .run(
                "return [...document.querySelectorAll('main input, main select, main textarea, button, a')]
                    .filter((part) => !(part.labels?.length || part.ariaLabel || part.innerText?.trim() || part.getAttribute('aria-labelledby')))
                    .map((part) => part.outerHTML.slice(0, 120))",
            )
            .await;
        assert_eq!(unlabelled, serde_json::json!([]), "{view}");
        let width = browser
            .run("return document.documentElement.scrollWidth")
            .await;
        assert_eq!(width, PHONE.0, "{view} is too wide");
        browser.picture(&format!("phone-{view}")).await;
    }
    browser.has_no_errors().await;
    browser.close().await;
    system.cleanup().await;
}

#[tokio::test]
async fn the_keyboard_reaches_the_navigation_and_the_theme_is_kept() {
    let system = System::start().await;
    let browser = Browser::open(&system, WIDE).await;
    browser.shows("Overview").await;
    let reached = "
        const links = [...document.querySelectorAll('nav a')];
        links.at(1).focus();
        return document.activeElement === links.at(1) && links.every((link) => link.tabIndex === 0)";
    browser.holds("links take the focus", reached).await;
    let before = browser
        .run("return document.documentElement.dataset.theme")
        .await;
    browser.press("Theme").await;
    for view in VIEWS {
        browser.view(view).await;
        browser.holds("the view is there", "return !!document.querySelector('main h1') && !document.querySelector('.skeleton')").await;
        browser.picture(&format!("dark-{view}")).await;
    }
    browser.run("location.reload()").await;
    browser.shows("Overview").await;
    assert_ne!(
        browser
            .run("return document.documentElement.dataset.theme")
            .await,
        before
    );
    browser.close().await;
    system.cleanup().await;
}
