"""The words and sentences that passages are made of."""

from __future__ import annotations

from dataclasses import dataclass

_WORDS = {
    "name": """Abel Agnes Alice Amara Andrew Anna Anton Arthur Astrid Beatrice Bella Boris Bridget Bruno Camille Carlos
        Clara Conrad Cyrus Daniel Daphne David Dennis Diana Edith Edward Elena Eliza Emil Emma Ethan Felix Fiona Frances
        Frank Freya George Gideon Gloria Grace Hannah Harriet Hector Helen Henry Hugo Igor Ingrid Irene Isaac Isabel
        Ivan Jacob Jerome Jonas Joseph Julian Karen Katya Kenji Lars Laura Leila Louise Lucas Lydia Magnus Malcolm
        Marcus Maria Martin Maya Mehmet Miriam Nadia Naomi Nathan Nora Olga Oliver Omar Oscar Patrick Paula Peter
        Philip Priya Quentin Rachel Rebecca Robert Rosa Rupert Ruth Samuel Sarah Sebastian Simon Sofia Stella Susan
        Tamara Teresa Theodore Thomas Ursula Vera Victor Walter Wanda Yasmin Yusuf Zoe""",
    "thing": """accordion anchor axe balloon basket bell blanket bottle bowl bracelet broom brush bucket camera candle
        carpet chessboard clock coin compass cup diary doll drum envelope feather flute fork globe hammer hammock harp
        helmet jar kettle kite knife ladder lamp lantern locket map mask medal microscope mirror mug necklace needle
        notebook paddle painting pan pencil pillow pipe plate poster puzzle quilt radio razor ribbon ring rope ruler
        saddle scarf shawl shell shovel skirt sled spoon sword teapot telescope tent thermometer torch towel tray
        trumpet umbrella vase violin wallet watch wheel whistle""",
    "town": """Aldbury Athens Bergen Berlin Bombay Boston Cairo Calais Cork Denver Dublin Durham Galway Geneva Glasgow
        Havana Krakow Leeds Lima Lisbon London Lyon Madrid Manila Milan Moscow Naples Oslo Paris Prague Quito Rome Seoul
        Sydney Tokyo Toronto Tunis Venice Vienna York""",
    "holder": """attic barn barrel basement bedroom bureau cabin cellar chapel chest closet cradle drawer garage garden
        hall hamper kitchen library locker nursery office oven parlour playroom safe shed stable studio tower trunk
        wardrobe workshop""",
    "food": """apples bacon beans bread cabbage carrots cheese cherries chicken dumplings eggs fish grapes honey lentils
        melon milk mushrooms noodles nuts olives onions oranges pasta peaches pears pizza plums potatoes rice salad
        soup spinach steak stew trout""",
    "animal": """badger beaver bull camel canary crow deer donkey duck eagle falcon ferret fox frog goat goose hamster
        hare hen horse kitten lamb lizard monkey mouse otter owl parrot pig pony puppy rabbit raven rooster snail snake
        spaniel tiger turtle weasel""",
    "pet": """Bandit Biscuit Bramble Clover Cookie Comet Dusty Ember Fidget Ginger Hazel Jasper Kipper Marble Midnight
        Muffin Noodle Nutmeg Pebble Pepper Pickle Poppy Rusty Scout Shadow Smoky Sparky Sunny Thistle Tinker Toffee
        Whisky""",
    "job": """actor baker barber butcher captain carpenter chemist clerk cook dentist doctor driver editor engineer
        farmer florist guide hunter judge lawyer miner nurse painter pilot plumber poet potter sailor singer smith
        soldier surgeon tailor teacher waiter weaver writer""",
    "colour": """amber black blue bronze brown crimson gold green grey indigo ivory khaki lilac orange pink purple red
        scarlet silver turquoise violet white yellow""",
    "subject": """algebra anatomy botany chemistry dancing drama drawing fencing geography geology grammar history law
        logic magic medicine music physics poetry swimming""",
    "flower": """begonias bluebells crocuses daffodils dahlias daisies ivy jasmine lavender lilies marigolds orchids
        pansies peonies poppies primroses roses sunflowers tulips violas""",
}
POOLS = {kind: tuple(words.split()) for kind, words in _WORDS.items()}


@dataclass(frozen=True, slots=True)
class _Relation:
    """One subject of passages. Every fact binds a {key} to a {value} and ends in either; `town` is any town."""

    key: str
    value: str
    openings: tuple[str, ...]
    facts: tuple[str, ...]


RELATIONS = (
    _Relation(
        "thing",
        "holder",
        (
            "The family was packing for the long journey to {town}.",
            "Before the guests came, everything had to be put away.",
            "The children were playing a game of hide and seek with their toys.",
        ),
        (
            "the {key} was in the {value}",
            "the {key} went to the {value}",
            "somebody had put the {key} into the {value}",
            "the {value} held the {key}",
        ),
    ),
    _Relation(
        "name",
        "holder",
        (
            "The storm was loud, and everyone looked for a place to sleep.",
            "There was a lot of work to do in the old house near {town}.",
            "The actors were told where to wait.",
        ),
        ("{key} was sent to the {value}", "{key} cleaned the {value}", "the {value} belonged to {key}"),
    ),
    _Relation(
        "name",
        "food",
        (
            "The friends met for lunch at a small restaurant in {town}.",
            "There was a lot to prepare for the wedding feast.",
            "Everyone was hungry after the long walk.",
        ),
        (
            "{key} ordered the {value}",
            "{key} asked for {value}",
            "{key} brought the {value}",
            "the {value} came from {key}",
        ),
    ),
    _Relation(
        "name",
        "animal",
        (
            "In this street, everyone keeps an animal.",
            "The vet in {town} had a full waiting room.",
            "The children were talking about the farm.",
        ),
        ("{key} fed the {value}", "{key} looked after the {value}", "the {value} lived with {key}"),
    ),
    _Relation(
        "animal",
        "pet",
        (
            "The animals on the farm all have names.",
            "The travelling circus came to {town} last night.",
            "Our neighbour is fond of animals.",
        ),
        ("the {key} is called {value}", "they named the {key} {value}", "the name of the {key} is {value}"),
    ),
    _Relation(
        "name",
        "job",
        (
            "Twenty years after school, the old friends met again in {town}.",
            "The village has people of every trade.",
            "All the cousins had left home to work.",
        ),
        ("{key} became the {value}", "{key} worked for the {value}", "the {value} was {key}"),
    ),
    _Relation(
        "name",
        "town",
        (
            "The family is spread all over the world.",
            "The summer holidays had begun at last.",
            "The office was empty, since everyone was travelling.",
        ),
        ("{key} moved to {value}", "{key} is living in {value}", "the train to {value} was for {key}"),
    ),
    _Relation(
        "name",
        "colour",
        (
            "It was a cold day, and everyone wore a warm coat.",
            "The teams lined up on the field.",
            "Each of the children had painted a door.",
        ),
        ("{key} had picked {value}", "{key} was dressed in {value}", "the colour {value} was for {key}"),
    ),
    _Relation(
        "name",
        "subject",
        (
            "In the evening there are classes for grown people.",
            "The new school in {town} was looking for teachers.",
            "The exams were only a week away.",
        ),
        ("{key} teaches {value}", "{key} knows all about {value}", "the lesson in {value} is given by {key}"),
    ),
    _Relation(
        "name",
        "flower",
        (
            "Spring had come, and the gardens of {town} were full of people.",
            "It was the day of the flower show.",
            "The neighbours shared one large garden.",
        ),
        ("{key} planted {value}", "{key} was proud of the {value}", "the {value} were watered by {key}"),
    ),
    _Relation(
        "name",
        "thing",
        (
            "After the party, some things were left behind.",
            "The old aunt in {town} had left something for everybody.",
            "The market was full of people who wanted to buy and sell.",
        ),
        ("{key} had lost the {value}", "{key} bought the {value}", "the {value} was given to {key}"),
    ),
    _Relation(
        "thing",
        "town",
        (
            "The museum had received many parcels.",
            "The traveller put all that he had brought home on the table.",
            "The shelves were full of old things.",
        ),
        ("the {key} was made in {value}", "the {key} came from {value}", "the parcel from {value} held the {key}"),
    ),
    _Relation(
        "holder",
        "colour",
        (
            "The house was to be painted from top to bottom.",
            "The hotel in {town} was being made ready for the summer.",
        ),
        ("the {key} was painted {value}", "they wanted the {key} in {value}", "there was {value} paint for the {key}"),
    ),
    _Relation(
        "town",
        "food",
        (
            "The cook had travelled a great deal.",
            "The book told of the best meals in the world.",
        ),
        (
            "people in {key} like {value}",
            "the best thing in {key} is the {value}",
            "they sell the finest {value} in {key}",
        ),
    ),
)

LEADS = (
    "And when somebody asked, it turned out once more that",
    "Years later, nobody had forgotten that",
    "In the end it was written down that",
    "The youngest one listened well and could say at once that",
    "It was only a small matter, but it was true that",
    "On the way home they told each other again that",
    "A letter came the next day, and it said that",
    "There was no doubt about it, since all of them had seen that",
)
FILLERS = (
    "It rained for most of the afternoon.",
    "Outside, the wind was blowing hard.",
    "The sun was already low.",
    "Nobody spoke for a while.",
    "The clock on the wall struck four.",
    "Somewhere a door closed.",
    "It was a day like any other.",
    "Time went by quickly.",
    "There was a smell of coffee in the air.",
    "Everybody was in a good mood.",
    "They laughed about it for a long time.",
    "A bird was singing in the old tree.",
    "Soon it would be dark.",
    "It had been a long week.",
    "The rest was soon forgotten.",
)
