"""The fixed prompts: every task on every passage, and each fourth one after a longer context. Pure."""

PASSAGES = (
    "The harbour of Varn freezes for eleven weeks a year. In 1893 the council bought a steam icebreaker "
    "for 42,000 crowns, a third of the town's budget, and argued about it for nine years. It paid for "
    "itself in the fourth winter, when grain ships could unload in February and bread stayed at its "
    "summer price.",
    "A heat pump moves heat instead of making it. With outdoor air at 7 °C a good one delivers four units"
    " of heat for each unit of electricity; at −10 °C it delivers about two and a half. The ratio falls "
    "because the refrigerant must be compressed further to be warmer than the water in the radiators.",
    "def merge(left, right):\n"
    "    result = []\n"
    "    i = j = 0\n"
    "    while i < len(left) and j < len(right):\n"
    "        if left[i] <= right[j]:\n"
    "            result.append(left[i])\n"
    "            i += 1\n"
    "        else:\n"
    "            result.append(right[j])\n"
    "            j += 1\n"
    "    return result + left[i:] + right[j:]",
    "Maria sold 18 boxes of apples on Monday and 27 on Tuesday. Each box holds 12 apples and costs 6.50 "
    "euros. On Wednesday it rained, and she sold only a third of Tuesday's number. She pays 40 euros a "
    "day for her stall at the market, and nothing when it is closed.",
    "Mitochondria carry their own DNA, a ring of about 16,600 base pairs in humans. It is inherited "
    "almost only from the mother, and mutates faster than the DNA of the nucleus. That makes it useful to"
    " tell how populations moved, and a poor witness of what fathers did.",
    '{"order": 5512, "customer": {"name": "J. Okafor", "city": "Lagos"}, "items": [{"sku": '
    '"A-17", "count": 2, "price": 19.9}, {"sku": "C-03", "count": 1, "price": 104.0}], "paid": '
    'true, "shipped": null, "notes": ["leave at the door", "call before delivery"]}',
    "Der Zug nach Basel fährt um 8.47 Uhr von Gleis 6. Wegen einer Baustelle hält er nicht in Offenburg. "
    "Reisende nach Offenburg nehmen bitte den Regionalzug um 8.59 Uhr von Gleis 11, der an allen "
    "Stationen hält und zwanzig Minuten länger braucht.",
    "The court held that a promise without consideration binds nobody, with one exception: where the "
    "other side has relied on it to its cost, and the one who promised could foresee that. Damages are "
    "then limited to what was lost by relying on the promise, not what keeping it would have brought.",
    "In chess the king and one pawn win against the bare king only if the attacker holds the key squares."
    " For a white pawn on e4 these are d6, e6 and f6. If the white king stands on one of them, it does "
    "not matter who is to move; if the black king keeps it away, the game is a draw.",
)
TASKS = (
    "{text}\n\nA summary in one sentence:",
    "Question: What is the most important number or name in the following text, and why?\n\n{text}\n\nAnswer:",
    "{text}\n\nThe same for a child of ten years:",
    "Text: {text}\n\nThree keywords, separated by commas:",
    "{text}\n\nTranslated into French:",
    "User: Read this carefully.\n{text}\nWhat follows from it?\nAssistant: It follows that",
    "{text}\n\nThe text goes on as follows:",
    "Here is a text.\n\n{text}\n\nA critical reader would object that",
)
LONG_EVERY = 4


def prompts(count: int) -> tuple[str, ...]:
    """The first `count`, at most 72. Neighbours differ in passage and task.

    Every fourth one has three other passages before its own: quantized KV caches show only once they are read.
    """
    return tuple(_prompt(place) for place in range(count))


def _prompt(place: int) -> str:
    passages, tasks = len(PASSAGES), len(TASKS)
    passage = place % passages
    task = TASKS[(passage + place // passages) % tasks]
    text = task.format(text=PASSAGES[passage])
    if place % LONG_EVERY != LONG_EVERY - 1:
        return text
    before = [PASSAGES[(passage + step) % passages] for step in (2, 4, 6)]
    return "\n\n".join([*before, text])
