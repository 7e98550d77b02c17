//! What is found, and what is not.

use super::*;

/// Compares what is found with what is marked in the text: `[[kind:value]]`.
#[track_caller]
fn check(marked: &str) {
    let (mut text, mut expected, mut rest) = (String::new(), Vec::new(), marked);
    while let Some((before, after)) = rest.split_once("[[") {
        text.push_str(before);
        let (inner, end) = after.split_once("]]").unwrap();
        let (kind, value) = inner.split_once(':').unwrap();
        let start = text.len();
        text.push_str(value);
        expected.push(Finding { kind: kind.parse().unwrap(), range: start..text.len() });
        rest = end;
    }
    text.push_str(rest);
    let found = Screener::default().find(&text);
    let shown = |findings: &[Finding]| -> Vec<String> {
        findings.iter().map(|finding| format!("{}: {}", finding.kind, &text[finding.range.clone()])).collect()
    };
    assert_eq!(shown(&found), shown(&expected), "in {text:?}");
    assert_eq!(found, expected);
}

#[test]
fn numbers_with_check_digits_are_found_in_any_grouping() {
    check("IBAN [[iban:FR14 2004 1010 0505 0001 3M02 606]], or [[iban:GB29NWBK60161331926819]].");
    check("iban [[iban:gb29 nwbk 6016 1331 9268 19]]");
    check("NIR [[nir:2 55 08 14 168 025 38]] et [[nir:255081416802538]]");
    check("SIRET [[siret:732 829 320 00074]], SIREN [[siren:732 829 320]]");
    check("numéro de TVA [[vat:FR83404833048]]");
    check("card [[card:4111 1111 1111 1111]], also [[card:378282246310005]] and [[card:5555-5555-5555-4444]]");
    check("SSN [[us-ssn:078-05-1120]]");
}

#[test]
fn what_is_called_an_iban_is_one_though_a_digit_is_wrong() {
    check("IBAN [[iban:FR15 2004 1010 0505 0001 3M02 606]] à Lyon");
    check("son IBAN : [[iban:GB15 NWBK 6016 1331 9268 19]], TOUT va bien");
    check("bank account IBAN '[[iban:IN60 SBKA000000000000A]]' used for tax");
    check("IBAN : à fournir, ou IBAN FR76 seul, et AWIBAN FR15 2004 1010 0505 0001 3M02 606");
}

#[test]
fn numbers_with_wrong_check_digits_are_not() {
    check("compte FR15 2004 1010 0505 0001 3M02 606");
    check("NIR 2 55 08 14 168 025 39");
    check("SIRET 732 829 320 00075");
    check("card 4111 1111 1111 1112");
    check("TVA FR84404833048");
    check("a total of 732 829 320 euros");
    check("SSN 000-05-1120 or 666-12-3456");
}

#[test]
fn corsica_and_la_poste_have_their_own_rules() {
    // The key of 2A counts as 19: 97 - (1850319001234 mod 97).
    let digits: Vec<u8> = "1850319001234".bytes().map(|byte| byte - b'0').collect();
    let key = check::nir_key(&digits);
    check(&format!("NIR [[nir:1 85 03 2A 001 234 {}{}]]", key[0], key[1]));
    check("SIRET [[siret:356 000 000 49837]]");
}

#[test]
fn telephone_numbers_are_found_by_form_and_by_words() {
    check("au [[phone:06 46 29 83 41]], au [[phone:+33 1 46 02 44 38]] ou [[phone:0033 (0)6.46.29.83.41]]");
    check("call [[phone:(579) 888-3058]] or [[phone:+1-408-555-1234]]");
    check("Phone: [[phone:450 0840]]");
    check("[[phone:07700 900 966]]");
    check("Version du document : 2024-03, page 3 sur 12, 450 0840 pièces, 1 120 000 euros, le 01-02-2024.");
}

#[test]
fn addresses_of_the_internet() {
    check("write to [[email:jane.o'doe+x@mail.example.co.uk]]. @home, a@b");
    check("from [[ip-address:192.168.10.12]] and [[ip-address:2001:db8::8a2e:370:7334]], version 1.2.3.4, at 12:30:45");
}

#[test]
fn dates_of_birth_need_words_that_say_so() {
    check("née le [[date-of-birth:14/01/1990]], le 15/01/2020");
    check("date de naissance : [[date-of-birth:14 mai 1979]]");
    check("DOB: [[date-of-birth:1979-05-14]]; date of birth is [[date-of-birth:May 14, 1979]]");
}

#[test]
fn vehicles_and_papers() {
    check("immatriculé [[licence-plate:FB-267-PE]] (VIN [[vin:UU1W9T8HVJW513313]])");
    check("plaque [[licence-plate:1234 AB 75]]");
    check("lot 1234 AB 75");
    check("Permis de conduire n° [[driving-licence:10AB86744]], passport number [[passport:XG9382049]]");
}

#[test]
fn secrets_are_found_by_form_and_by_name() {
    check("key [[secret:AKIAIOSFODNN7EXAMPLE]]");
    check("password = [[secret:Tr0ub4dor&3]]");
    check("api_key: \"[[secret:q8Zt3LmN0pXv7RwYb2Kd]]\"");
    check("postgres://admin:[[secret:s3cr3t]]@db.example.com/x");
    check("the password is required; api_key: your_api_key_goes_here");
}

#[test]
fn addresses_of_streets() {
    check("demeurant [[address:41, rue Delattre, 20366 Lefort]], vous informe");
    check("au [[address:12 bis avenue de la République, 75011 Paris]].");
    check("at [[address:1600 Pennsylvania Avenue NW, Washington, DC 20500]]");
}

#[test]
fn persons_are_found_by_lists_and_by_words() {
    check("Je m'appelle [[person:Xavier Brzezinski]].");
    check("[[person:Mme Lenoir]] et [[person:M. Le Gall]] ont signé.");
    check("[[person:Jean-Luc Dubois]] a écrit à [[person:Rodriguez Jean]].");
    check("Patient of [[person:Dr. Helena Shaw]], [[person:James Muller]]'s file");
    check("La société Hervé Sauvage et Fils facture. Will you go to Paris in May? Bank of America.");
    check("[[person:Jean Rodriguez]] est venu. Ensuite [[person:Rodriguez]] est parti.");
}

#[test]
fn hostile_texts_do_no_harm() {
    for text in ["", "@", "@@@@", "0", "+", "((((", "\u{301}\u{301}A", "é@é.é", "1-", "FR", "FR76", "::::", "://:@"]
    {
        Screener::default().find(text);
    }
    let long = "1 ".repeat(100_000);
    Screener::default().find(&long);
    let long = "A".repeat(300_000);
    Screener::default().find(&long);
}

mod pseudonyms {
    use proptest::prelude::*;

    use super::*;

    fn with(key: &str) -> Pseudonymiser {
        Pseudonymiser::new(key.as_bytes(), "test").unwrap()
    }

    /// Texts with a value of each kind; the random numbers make values that are valid by the checks alone.
    fn text(numbers: &[u8], names: (usize, usize)) -> String {
        let digits = |from: usize, count: usize| -> Vec<u8> {
            (from..from + count).map(|at| numbers[at % numbers.len()] % 10).collect()
        };
        let written = |digits: &[u8]| digits.iter().map(ToString::to_string).collect::<String>();
        let mut siren = digits(0, 9);
        siren[0] = 1 + siren[0] % 9;
        check::set_luhn(&mut siren);
        let mut siret = [siren.clone(), digits(9, 5)].concat();
        check::set_luhn(&mut siret);
        let mut card = [vec![4], digits(3, 15)].concat();
        check::set_luhn(&mut card);
        let mut nir = [vec![1, 8, 5, 0, 5, 7, 8], digits(7, 6)].concat();
        nir.extend(check::nir_key(&nir));
        let account = written(&digits(5, 23));
        let iban = check::iban_key(b"FR", account.as_bytes());
        let vat = check::vat_key(&siren);
        let phone = written(&digits(11, 8));
        let (given, family) = (
            ["Jean", "Camille", "Alice", "Hélène"][names.0 % 4],
            ["Rodriguez", "Lefebvre", "Durand", "Nguyen"][names.1 % 4],
        );
        format!(
            "Je soussigné {given} {family}, né le {:02}/03/1981, demeurant 12, rue Lefort, 20366 Marion. Tél. 06{phone}, \
             courriel {given}.x@example.com, IBAN FR{}{account}, NIR {}, SIREN {}, SIRET {}, TVA FR{}{}, carte {}, IP \
             192.168.{}.7, véhicule FB-{:03}-PE (VIN VF1AB{}), password: Xk9{phone}z. M. {family} signe.",
            1 + numbers[0] % 28,
            written(&iban),
            written(&nir),
            written(&siren),
            written(&siret),
            written(&vat),
            written(&siren),
            written(&card),
            numbers[1],
            100 + u16::from(numbers[2]),
            written(&digits(2, 12)),
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_alias_is_of_the_same_kind_and_the_original_is_gone(
            numbers in prop::collection::vec(any::<u8>(), 24),
            names in (any::<usize>(), any::<usize>()),
        ) {
            let (screener, with) = (Screener::default(), with("a key of sixteen bytes"));
            let text = text(&numbers, names);
            let found = screener.find(&text);
            let kinds: Vec<Kind> = found.iter().map(|finding| finding.kind).collect();
            prop_assert!(kinds.len() >= 16, "{kinds:?} in {text}");
            let new = replace(&text, &found, |kind, value| with.alias(kind, value));
            prop_assert_eq!(&new, &replace(&text, &found, |kind, value| with.alias(kind, value)));
            for finding in &found {
                let value = &text[finding.range.clone()];
                prop_assert!(!new.contains(value), "{value} is still in {new}");
            }
            let again: Vec<Kind> = screener.find(&new).iter().map(|finding| finding.kind).collect();
            prop_assert_eq!(again, kinds, "\n{}\n{}", text, new);
        }
    }

    #[test]
    fn the_parts_of_a_name_have_one_alias_each() {
        let with = with("a key of sixteen bytes");
        let alias = |value| with.alias(Kind::Person, value);
        let full = alias("Jean Rodriguez");
        let (given, family) = full.split_once(' ').unwrap();
        assert!(given != "Jean" && family != "Rodriguez");
        assert_eq!(alias("M. Rodriguez"), format!("M. {family}"));
        assert_eq!(alias("Rodriguez Jean"), format!("{family} {given}"));
        assert_eq!(alias("RODRIGUEZ"), family.to_uppercase());
        assert_eq!(alias("Mme Jean-Anne de Rodriguez").split(' ').next_back(), Some(family));
    }

    #[test]
    fn one_number_has_one_alias_however_it_is_written() {
        let with = with("a key of sixteen bytes");
        let bare = |kind, value| with.alias(kind, value).replace([' ', '.'], "");
        assert_eq!(bare(Kind::Siren, "732 829 320"), bare(Kind::Siren, "732829320"));
        assert!(bare(Kind::Siret, "73282932000074").starts_with(&bare(Kind::Siren, "732829320")));
        assert!(bare(Kind::Vat, "FR44732829320").ends_with(&bare(Kind::Siren, "732829320")));
        let national = bare(Kind::Phone, "06 46 29 83 41");
        assert_eq!(bare(Kind::Phone, "+33 6 46 29 83 41"), format!("+33{}", &national[1..]));
        assert_eq!(with.alias(Kind::Nir, "1 85 03 2A 001 234 49").as_bytes()[8..10], *b"2A");
    }

    #[test]
    fn another_key_gives_another_alias_and_a_short_one_is_refused() {
        let (one, two) = (with("a key of sixteen bytes"), with("b key of sixteen bytes"));
        assert_ne!(one.alias(Kind::Card, "4111111111111111"), two.alias(Kind::Card, "4111111111111111"));
        let error = Pseudonymiser::new(b"short", "KEY").unwrap_err().to_string();
        assert_eq!(error, "KEY: the key has 5 bytes, expected at least 16 (for example 64 hexadecimal digits)");
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(Pseudonymiser::from_file_or_env(Some(&path)).unwrap_err().to_string().ends_with("cannot be read"));
        Pseudonymiser::create_key(&path).unwrap();
        let first = Pseudonymiser::from_file_or_env(Some(&path)).unwrap().fingerprint();
        Pseudonymiser::create_key(&path).unwrap();
        assert_eq!(Pseudonymiser::from_file_or_env(Some(&path)).unwrap().fingerprint(), first);
    }
}

#[test]
fn what_a_question_introduces_is_found_in_the_answer() {
    let config = ScreenConfig { action: Action::Mask, ..ScreenConfig::default() };
    let screening = Screening::new(&config).unwrap();
    let texts = [
        "Permis de conduire n° 10AB86744 de Jean Rodriguez. Quel numéro, et de qui ?",
        "10AB86744",
        "Rodriguez",
        "rien",
    ];
    let mut count = 0;
    let new = screening.texts(&texts, |_, _| count += 1);
    assert_eq!(
        new[0].as_deref(),
        Some("Permis de conduire n° [DRIVING_LICENCE] de [PERSON]. Quel numéro, et de qui ?")
    );
    assert_eq!(new[1..], [Some("[DRIVING_LICENCE]".to_owned()), Some("[PERSON]".to_owned()), None]);
    assert_eq!(count, 4);
}

#[test]
fn a_value_at_the_end_of_a_text_does_not_reach_into_the_next() {
    let config = ScreenConfig { action: Action::Mask, ..ScreenConfig::default() };
    let new = Screening::new(&config).unwrap().texts(&["password = Tr0ub4dor&3", "next"], |_, _| {});
    assert_eq!(new, [Some("password = [SECRET]".to_owned()), None]);
}
