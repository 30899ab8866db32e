use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn matches(selector: &str, pairs: &[(&str, &str)]) -> bool {
    Selector::parse(selector).unwrap().matches(&labels(pairs))
}

#[test]
fn operators_mean_what_calico_means() {
    let node = [("zone", "eu-1"), ("kubernetes.io/os", "linux")];
    for (selector, expected) in [
        ("", true),
        ("  ", true),
        ("all()", true),
        ("global()", true),
        ("!all()", false),
        ("has(zone)", true),
        ("!has(zone)", false),
        ("! ! has(zone)", true),
        ("zone == 'eu-1'", true),
        ("zone=='eu-1'", true),
        ("zone == \"eu-1\"", true),
        ("zone != 'eu-1'", false),
        ("kubernetes.io/os == 'linux'", true),
        ("zone in {'eu-1', 'eu-2'}", true),
        ("zone in {}", false),
        ("zone not in {'eu-1'}", false),
        ("zone not in {}", true),
        ("zone contains 'u-'", true),
        ("zone starts with 'eu'", true),
        ("zone ends with '-1'", true),
        ("zone ends with 'eu'", false),
        (
            "zone == 'us' || has(zone) && kubernetes.io/os == 'linux'",
            true,
        ),
        (
            "(zone == 'us' || has(zone)) && kubernetes.io/os == 'win'",
            false,
        ),
        ("!(zone == 'us')", true),
        ("!zone == 'us'", true),
    ] {
        assert_eq!(matches(selector, &node), expected, "{selector}");
    }
}

#[test]
fn missing_labels_satisfy_only_the_negative_tests() {
    for (selector, expected) in [
        ("a == ''", false),
        ("a != 'x'", true),
        ("a in {'x'}", false),
        ("a not in {'x'}", true),
        ("a contains ''", false),
        ("a starts with ''", false),
        ("a ends with ''", false),
    ] {
        assert_eq!(matches(selector, &[]), expected, "{selector}");
    }
}

#[test]
fn words_of_the_language_are_also_labels() {
    assert!(matches(
        "has == 'x' && all == 'y' && in == 'z'",
        &[("has", "x"), ("all", "y"), ("in", "z")]
    ));
    assert!(matches("has(has)", &[("has", "")]));
}

#[test]
fn errors_say_where_and_what_was_expected() {
    for (selector, position, problem) in [
        ("zone =", 6, "unexpected '='"),
        ("zone == eu", 9, "expected a text in quotes, found \"eu\""),
        ("zone == 'eu", 9, "text without its closing '"),
        ("has(zone", 9, "expected ), found the end"),
        (
            "has(zone) has(os)",
            11,
            "expected &&, || or the end, found \"has\"",
        ),
        ("zone in 'eu'", 9, "expected {, found the text \"eu\""),
        ("é == 'x'", 1, "unexpected 'é'"),
        ("a == 'é' é", 10, "unexpected 'é'"),
        (
            "()",
            2,
            "expected a label, has(label), all(), ! or (, found \")\"",
        ),
    ] {
        let error = Selector::parse(selector).unwrap_err();
        assert_eq!(
            (error.position, error.problem.as_str()),
            (position, problem),
            "{selector}"
        );
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |n: usize| format!("{}all(){}", "(".repeat(n), ")".repeat(n));
    assert!(Selector::parse(&nested(64)).is_ok());
    assert!(Selector::parse(&nested(65)).is_err());
    assert!(Selector::parse(&"(".repeat(60_000)).is_err());
    assert!(Selector::parse(&format!("{}all()", "!".repeat(60_000))).is_ok());
    assert!(Selector::parse(&" ".repeat(70_000)).is_err());
}

fn expression() -> impl Strategy<Value = Expression> {
    let key = prop_oneof![Just("a"), Just("b/c"), Just("in"), Just("has")].prop_map(str::to_owned);
    let text = "[a-c' é]{0,3}";
    let set = proptest::collection::btree_set(text, 0..3);
    let test = prop_oneof![
        Just(Test::Present),
        text.prop_map(Test::Equal),
        text.prop_map(Test::NotEqual),
        text.prop_map(Test::Contains),
        text.prop_map(Test::StartsWith),
        text.prop_map(Test::EndsWith),
        set.clone().prop_map(Test::In),
        set.prop_map(Test::NotIn),
    ];
    let leaf = prop_oneof![
        Just(Expression::All),
        (key, test).prop_map(|(key, test)| Expression::Label(key, test))
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let parts = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            parts.clone().prop_map(Expression::And),
            parts.prop_map(Expression::Or),
            inner.prop_map(|e| match e {
                Expression::Not(inner) => Expression::Not(inner),
                other => Expression::Not(Box::new(other)),
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in ".{0,80}") {
        let _ = Selector::parse(&text);
    }

    #[test]
    fn any_tokens_give_an_answer(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("("), Just(")"), Just("!"), Just("&&"), Just("||"), Just("=="), Just("!="), Just("{"), Just("}"),
                Just(","), Just("in"), Just("not"), Just("has"), Just("all"), Just("a"), Just("'x'"), Just("starts"),
                Just("with"), Just("contains"),
            ],
            0..20,
        )
    ) {
        let _ = Selector::parse(&parts.join(" "));
    }

    #[test]
    fn what_is_written_reads_back(expression in expression()) {
        let selector = Selector(expression);
        prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
    }
}
