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
fn numbers_with_wrong_check_digits_are_not() {
    check("IBAN FR15 2004 1010 0505 0001 3M02 606");
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
    check("plaque [[licence-plate:1234 AB 75]], lot 1234 AB 75");
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
