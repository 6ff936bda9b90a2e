"""Frequent function words by language, in lower case: running text of a language holds some of its own.

ISO 639-1 codes. Of languages that are not here, and of those written without spaces between words, nothing is known.
"""

from __future__ import annotations

_LISTED = {
    "ar": "في من على إلى أن هذا التي ما لا مع",
    "bg": "и на в за да се не от е с",
    "bn": "এবং ও এই করে না থেকে জন্য হয় একটি তার",
    "ca": "de la i el que en els per amb les",
    "cs": "a se v na je že to s z i",
    "da": "og i at det en til er som på de",
    "de": "der die und das ist von zu mit nicht ein",
    "el": "και το να του η της με για που την",
    "en": "the be to of and that have with",
    "es": "de la que el en y a los se no",
    "et": "ja on ei et see ka oli kui mis ta",
    "fa": "و در به از که این را با است برای",
    "fi": "ja on ei että se oli hän mutta kun myös",
    "fr": "de la le et les des en un que est",
    "he": "של את על לא הוא כי זה עם גם היא",
    "hi": "के है में की और से को का पर यह",
    "hr": "i u je na se da za su od s",
    "hu": "a az és hogy nem is egy volt ez meg",
    "id": "yang dan di untuk dengan ini dari pada dalam tidak",
    "it": "di e il la che in un per non sono",
    "lt": "ir į kad yra iš su kaip ne tai buvo",
    "lv": "un ir ar no par ka uz lai kas bija",
    "nl": "de het een van en in is dat te op",
    "nb": "og i det er på en til som for av",
    "pl": "i w na z się nie do to że jest",
    "pt": "de a que o e do da em um para",
    "ro": "de și în la a cu pe care nu din",
    "ru": "и в не на что с по как это из",
    "sk": "a v na sa je že to s z do",
    "sl": "in je v na se da za so ki z",
    "sr": "и у је на се да за су од с",
    "sv": "och i att det som en på är av för",
    "ta": "என்று ஒரு மற்றும் இந்த என்ற அந்த என அவர் இது உள்ள",
    "tr": "ve bir bu da de için ile çok olan ne",
    "uk": "і в на не що з до за у як",
    "ur": "کے میں کی ہے اور سے کا کو نے پر",
    "vi": "và của là có cho không được trong với các",
}
STOP_WORDS_OF = {lang: tuple(words.split()) for lang, words in _LISTED.items()}

# Written without spaces between words: each character is a word, and a mean length of words says nothing.
WITHOUT_SPACES = frozenset(("bo", "ja", "km", "lo", "my", "th", "zh"))
