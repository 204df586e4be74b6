"""`messages` of a programme file, and what campaigns say: languages, topics, templates in text and HTML."""

from __future__ import annotations

from datetime import time

import pytest

from services.programme import VARIABLES, Message, ProgrammeError, parse, render
from services.programme.messages import Consent, MessagePolicy, QuietHours, Topic
from tests.conftest import PROGRAMMES

DEMO = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
SECTION = """
messages:
  languages: [en, pl, pt-BR]
  topics:
    - id: offers
    - id: account
      consent: always
  quiet_hours: {from: "21:30", until: "08:00"}
  caps: {per_day: 1, per_week: 3}
"""
CAMPAIGN = """
  - id: thanks
    trigger: first_purchase
    message:
      topic: account
      channel: sms
      urgent: true
      subject: {en: "Hello", pl: "Witaj"}
      text: {en: "Hello {{ name }}", pl: "Witaj {{ name }}"}
      html: {pl: "<p>{{ name }}</p>"}
"""


def text(section: str = SECTION, campaign: str = CAMPAIGN) -> str:
    return DEMO.replace("\ncampaigns:", f"{section}\ncampaigns:") + campaign


def problems(source: str) -> list[str]:
    with pytest.raises(ProgrammeError) as refused:
        parse(source, "x")
    return [problem.sentence.partition(": ")[2] for problem in refused.value.problems]


def test_a_programme_says_how_messages_are_sent() -> None:
    programme = parse(text(), "x")
    assert programme.messages == MessagePolicy(
        languages=("en", "pl", "pt-BR"),
        topics=(Topic(id="offers"), Topic(id="account", consent=Consent.ALWAYS)),
        quiet_hours=QuietHours(start=time(21, 30), end=time(8)),
        per_day=1,
        per_week=3,
    )
    action = programme.campaigns[-1].variants[0].actions.message
    assert action is not None
    assert (action.topic, action.channel, action.urgent) == ("account", "sms", True)
    assert programme.messages.words(action, "pl") == Message(
        subject="Witaj", text="Witaj {{ name }}", html="<p>{{ name }}</p>"
    )  # fmt: skip


def test_a_programme_without_the_section_has_the_version_and_the_ways_it_ever_had() -> None:
    programme = parse(DEMO, "x")
    assert programme.messages == MessagePolicy()
    assert programme.messages.topic("") == Topic(id="offers")
    # A topic that is gone is heard of by those who agreed.
    assert programme.messages.topic("gone").consent is Consent.OPT_IN


@pytest.mark.parametrize(
    ("language", "subject"), [("pl", "Witaj"), ("pl-PL", "Witaj"), ("en", "Hello"), ("pt-BR", "Hello"), ("", "Hello")]
)
def test_a_language_that_a_message_does_not_have_falls_back(language: str, subject: str) -> None:
    programme = parse(text(), "x")
    action = programme.campaigns[-1].variants[0].actions.message
    assert action is not None
    assert programme.messages.words(action, language).subject == subject


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("languages: [en, pl, pt-BR]", "languages: [en, en, pl]",
         'messages.languages[1]: "en" is here twice; remove one'),
        ("languages: [en, pl, pt-BR]", "languages: [english]",
         'messages.languages[0]: found "english"; expected a language such as "en" or "pt-BR"'),
        ("- id: account", "- id: offers", 'messages.topics[1]: "offers" is here twice; remove one'),
        ("consent: always", "consent: never",
         'messages.topics[1].consent: found "never"; expected opt_in, opt_out or always'),
        ('until: "08:00"', 'until: "21:30"',
         'messages.quiet_hours.until: found "21:30"; expected another time than from'),
        ('until: "08:00"', 'until: "24:00"',
         'messages.quiet_hours.until: found "24:00"; expected a time of day in quotes, "00:00" to "23:59"'),
        ("per_week: 3", "per_week: 0", None),
        ("per_day: 1, per_week: 3", "per_day: 4, per_week: 3",
         "messages.caps.per_week: found 3; expected no fewer than the 4 of a day"),
        ("topic: account", "topic: acount",
         'campaigns[7].message.topic: messages.topics has no "acount"; did you mean "account"?'),
        ('subject: {en: "Hello", pl: "Witaj"}', 'subject: {pl: "Witaj"}',
         "campaigns[7].message.subject: the first language, en, is missing; all others fall back to it"),
        ('pl: "Witaj {{ name }}"}', 'de: "Hallo"}', 'campaigns[7].message.text.de: messages.languages has no "de"'),
        ('html: {pl: "<p>{{ name }}</p>"}', 'html: {pl: "<p>{{ nam }}</p>"}',
         'campaigns[7].message.html.pl: unknown variable "nam"; did you mean "name"?'),
        ('text: {en: "Hello {{ name }}", pl: "Witaj {{ name }}"}', 'text: {en: "Hello {{ nme }}", pl: "{{ name"}',
         'campaigns[7].message.text.en: unknown variable "nme"; did you mean "name"?'),
        ('html: {pl: "<p>{{ name }}</p>"}', 'html: {pl: "<p>{{ name|safe }}</p>"}',
         'campaigns[7].message.html.pl: no filter "safe" like this'),
        ('html: {pl: "<p>{{ name }}</p>"}', 'html: {"pt-BR": "<p>x</p>"}',
         "campaigns[7].message.html: the language pt-BR is here, and the subject has none; add it"),
        ('text: {en: "Hello {{ name }}", pl: "Witaj {{ name }}"}', 'text: "Hello"',
         "campaigns[7].message.text: the language en is missing; the subject has it"),
        ('text: {en: "Hello {{ name }}", pl: "Witaj {{ name }}"}', 'text: {en: "  ", pl: "x"}',
         'campaigns[7].message.text: found "  " in the language en; expected text of 1 to 10,000 characters'),
    ],
)  # fmt: skip
def test_what_is_wrong_about_messages_is_told_with_its_place_and_the_remedy(
    old: str, new: str, expected: str | None
) -> None:
    source = text()
    assert old in source
    found = problems(source.replace(old, new))
    if expected is not None:
        assert any(sentence.startswith(expected) for sentence in found), found


def test_in_html_a_value_is_text_and_what_a_template_says_is_markup() -> None:
    values = dict.fromkeys(VARIABLES, "") | {"name": "<script>alert('x')</script>", "tier": "A & B"}
    template = "<p>{{ name }} {{ tier|upper }} {{ 'a' ~ name }}</p>"
    message = render(Message(subject="x", text=template, html=template), values)
    shown = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"
    assert "<script>" in message.text
    assert message.html == f"<p>{shown} A &amp; B a{shown}</p>"
