//! Which collections a call may change.

use bridge_functional::{Call, Keys, Scope};
use bridge_vars::{CollectionFilter, Variables};

use crate::support::apply;

fn all() -> CollectionFilter {
    CollectionFilter::all()
}
fn none() -> CollectionFilter {
    CollectionFilter::none()
}
fn only<const N: usize>(names: [&str; N]) -> CollectionFilter {
    names.into()
}
fn but<const N: usize>(names: [&str; N]) -> CollectionFilter {
    CollectionFilter::all_but(names)
}

#[test]
fn a_filter_contains_what_it_names() {
    let check = |filter: CollectionFilter, contained: &[&str], others: &[&str]| {
        assert!(contained.iter().all(|name| filter.contains(name)), "{filter}");
        assert!(!others.iter().any(|name| filter.contains(name)), "{filter}");
    };
    check(true.into(), &["any", "all"], &[]);
    check(false.into(), &[], &["any"]);
    check("one".into(), &["one"], &["two", "on", "onetwo", ""]);
    check(only(["one", "two"]), &["one", "two"], &["three"]);
    check(only([]), &[], &["one"]);
    check(but(["one"]), &["two"], &["one"]);
}

#[test]
fn filters_are_joined_cut_and_taken_away_as_in_flax() {
    let both_ways = |a: CollectionFilter, b: CollectionFilter, union: CollectionFilter, common| {
        assert_eq!(a.union(&b), union, "{a} | {b}");
        assert_eq!(b.union(&a), union, "{b} | {a}");
        assert_eq!(a.intersection(&b), common, "{a} & {b}");
        assert_eq!(b.intersection(&a), common, "{b} & {a}");
    };
    both_ways(only(["a", "b"]), only(["b", "c"]), only(["a", "b", "c"]), only(["b"]));
    both_ways(all(), none(), all(), none());
    both_ways(none(), none(), none(), none());
    both_ways(all(), all(), all(), all());
    both_ways(but(["a", "b"]), but(["b", "c"]), but(["b"]), but(["a", "b", "c"]));
    both_ways(but(["a", "b"]), only(["b", "c"]), but(["a"]), only(["c"]));

    let check =
        |a: CollectionFilter, b: CollectionFilter, rest| assert_eq!(a.difference(&b), rest, "{a} - {b}");
    check(only(["a", "b"]), only(["b", "c"]), only(["a"]));
    check(all(), none(), all());
    check(none(), none(), none());
    check(all(), all(), none());
    check(all(), "a".into(), but(["a"]));
    check("a".into(), all(), none());
    check(but(["a", "b"]), but(["b", "c"]), only(["c"]));
    check(but(["a", "b"]), only(["b", "c"]), but(["a", "b", "c"]));
}

#[test]
fn an_empty_filter_is_none_and_a_name_never_is() {
    assert!(only([]).is_none() && none().is_none() && (!all()).is_none() && (all() - all()).is_none());
    assert!(!but([]).is_none() && !CollectionFilter::from("").is_none() && !but(["a"]).is_none());
}

#[test]
fn a_call_takes_every_form_of_a_filter() {
    let names = |filter: CollectionFilter| {
        let say = |scope: &Scope| {
            let mutable = ["a", "b"].map(|name| scope.is_mutable_collection(name));
            assert_eq!(mutable, ["a", "b"].map(|name| scope.mutable().contains(name)));
            Ok(mutable)
        };
        let call = Call::new().keys(Keys::none()).mutable(filter);
        call.apply(&Variables::default(), say).unwrap().0
    };
    assert_eq!(names("a".into()), [true, false]);
    assert_eq!(names(["a", "b"].into()), [true, true]);
    assert_eq!(names(vec!["b".to_owned()].into()), [false, true]);
    assert_eq!(names((&["a"][..]).into()), [true, false]);
    assert_eq!(names(true.into()), [true, true]);
    assert_eq!(names(false.into()), [false, false]);
    assert_eq!(names(but(["a"])), [false, true]);
    assert!(apply(&Variables::default(), |scope| Ok(scope.mutable().is_none())).unwrap());
}

#[test]
fn init_may_change_all_but_intermediates() {
    let (filter, _) = Call::new().init(|scope| Ok(scope.mutable().clone())).unwrap();
    assert_eq!(filter, but(["intermediates"]));
    let (filter, _) = Call::new().describe(|scope| Ok(scope.mutable().clone())).unwrap();
    assert_eq!(filter, but(["intermediates"]));
    let (filter, _) = Call::new().mutable("params").init(|scope| Ok(scope.mutable().clone())).unwrap();
    assert_eq!(filter, only(["params"]));
}
