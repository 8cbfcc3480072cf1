"""The real data sets that remem knows: their files with sizes and sha256, where they come from, their terms."""

from __future__ import annotations

from dataclasses import dataclass

from .tsplib_files import FILES


@dataclass(frozen=True)
class DataFile:
    """One file of a set. optional: models can be trained without it."""

    name: str
    bytes: int
    sha256: str
    optional: bool = False


@dataclass(frozen=True)
class DataSet:
    """folder: where its files lie under the data root; upstream: where the set comes from; cite: whom to cite."""

    title: str
    folder: str
    files: tuple[DataFile, ...]
    licence: str
    upstream: str
    cite: str


_ASSISTMENTS_TERMS = (
    "MIT (stated by the conversion); the ASSISTments terms of use ask not to identify students and not to give the "
    "data to anyone else"
)
_ASSISTMENTS_UPSTREAM = "https://github.com/arghosh/AKT, folder data; original: ASSISTments data pages"

SETS: dict[str, DataSet] = {
    "severson": DataSet(
        "Severson et al. 2019: 41 training and 43 primary test LFP cells, Q(V) of cycles 2 to 100, cycle life",
        "battery",
        (
            DataFile(
                "severson_qv_train.parquet",
                5718344,
                "11ddd50fa63e5478176674c1d605f273fbb49604801f05496116ecf35ef18591",
            ),
            DataFile(
                "severson_qv_test1.parquet",
                6028320,
                "ac6457bea822838c0c8c4432542bdcc5d8bf8712c4dda12a2e1cbed79f9ecb84",
                optional=True,
            ),
            DataFile(
                "severson_cells.csv",
                5728,
                "c383403fd764e6c75b1f10062ceac927e7f1aec4cf3c5a5fb37d64077e41f25c",
                optional=True,
            ),
        ),
        "MIT (stated by the re-analysis; that of the raw data was not seen at its source)",
        "https://github.com/petermattia/revisit-severson-et-al, folder data; its csv folders train, test1 and test2 "
        "are read as they are by every command that takes files",
        "K. A. Severson et al., Nature Energy 4, 383 (2019); P. M. Attia et al., J. Electrochem. Soc. (2021), "
        "doi 10.1149/1945-7111/ac2704",
    ),
    "hust": DataSet(
        "HUST: 57 LFP cells, 16 charge statistics and the capacity of every cycle to 80 %",
        "battery",
        (
            DataFile(
                "hust_percycle.parquet",
                4125853,
                "e7e32eff1e1d5bc50ea3f096482232840a9565e1363d8bab0198ca55280256e2",
            ),
        ),
        "none stated by the conversion; raw data: Mendeley Data nsc7hnsg4s (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "G. Ma et al., Energy Environ. Sci. (2022), doi 10.1039/D2EE01676A; F. Wang et al., Nature Communications "
        "15, 4332 (2024)",
    ),
    "xjtu": DataSet(
        "XJTU: 42 NCM cells under six strategies, 16 charge statistics and the capacity of every cycle to 80 %",
        "battery",
        (
            DataFile(
                "xjtu_percycle.parquet",
                678840,
                "9264d08793003fdc20110828d010736d5bd9c7cc84001029031b19b5e4c42d34",
            ),
        ),
        "none stated by the conversion; raw data: Zenodo 10963339 (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "F. Wang et al., Nature Communications 15, 4332 (2024)",
    ),
    "tongji": DataSet(
        "Tongji: 130 NCA, NCM and blend cells, 16 charge statistics and the capacity of every cycle",
        "battery",
        (
            DataFile(
                "tju_percycle.parquet",
                2370094,
                "1d8c91554ae9b2d0799eaae62acdfee9a307c0b93f0f2bf644195b0e63aecc9e",
            ),
        ),
        "none stated by the conversion; raw data: Zenodo 6405084 (terms there not checked)",
        "https://github.com/wang-fujin/PINN4SOH, folder data",
        "J. Zhu et al., Nature Communications 13, 2261 (2022); F. Wang et al., Nature Communications 15, 4332 (2024)",
    ),
    "nasa": DataSet(
        "NASA PCoE: capacities of 34 18650 cells, discharges of B0005, B0006, B0007 and B0018",
        "battery",
        (
            DataFile(
                "nasa_capacity.parquet",
                19756,
                "1787b336bd7c176c4dd5490feadf3e047c4ecb8a4e2579c293798f15b101dac3",
            ),
            DataFile(
                "nasa_discharge_curves.parquet",
                1706328,
                "b916e34b8ce4cc718e0d2dc996e9794b222e3652c6b2332d953631ae9d768dda",
                optional=True,
            ),
        ),
        "work of a US government agency; none stated by the csv conversion",
        "NASA Prognostics Center of Excellence Data Set Repository, data set 5 'Batteries'",
        "B. Saha, K. Goebel (2007), Battery Data Set, NASA Ames Research Center",
    ),
    "calce": DataSet(
        "CALCE CS2: four LCO cells run far past their end of life, every cycle and its curves",
        "battery",
        (
            DataFile(
                "calce_cs2_cycles.parquet",
                85931,
                "550176476e80e25acde717dd73e2fced2cf26b3b33749941c8910b1fddb9bfe3",
            ),
            DataFile(
                "calce_cs2_curves.parquet",
                3799478,
                "a6467a234ac328f8c638f388445235c3ae57257996a5b16b9f07b2d7b399afaa",
                optional=True,
            ),
        ),
        "'open access' by its makers, who ask to be cited",
        "CALCE Battery Research Group, University of Maryland, calce.umd.edu (battery data)",
        "W. He et al., J. Power Sources 196, 10314 (2011); Y. Xing et al., Microelectronics Reliability 53, 811 (2013)",
    ),
    "assistments2009": DataSet(
        "ASSISTments 2009-2010 skill builder: 3,321 students, 110 skills, folds 0 to 4 of AKT",
        "knowledge_tracing",
        (
            DataFile(
                "assistments2009_folds0-4.parquet",
                736641,
                "a418b99094c0ef280180c0aa08e4d516317405bc58aaa73e7cc41d17d0ef0f87",
            ),
            DataFile(
                "assistments2009_skills.csv",
                2939,
                "9a9088e54ccea233ba657f3284de4c09726f91633adc1f2a2fa74eeb1f7ea983",
                optional=True,
            ),
        ),
        _ASSISTMENTS_TERMS,
        _ASSISTMENTS_UPSTREAM,
        "M. Feng, N. Heffernan, K. Koedinger, UMUAI 19, 243 (2009); A. Ghosh, N. Heffernan, A. S. Lan, KDD 2020",
    ),
    "assistments2015": DataSet(
        "ASSISTments 2015 skill builder: 15,872 students, 100 skills, no question ids, folds 1 to 4 of AKT",
        "knowledge_tracing",
        (
            DataFile(
                "assistments2015_folds0-4.parquet",
                528583,
                "4098699b22d94418d4ce2ff04ef280462b8b82e0b788051ff1e582a17d14a84a",
            ),
        ),
        _ASSISTMENTS_TERMS,
        _ASSISTMENTS_UPSTREAM,
        "A. Ghosh, N. Heffernan, A. S. Lan, KDD 2020",
    ),
    "assistments2017": DataSet(
        "ASSISTments 2017 competition: 1,364 students, 102 skills, action log, folds 1 to 4 of AKT",
        "knowledge_tracing",
        (
            DataFile(
                "assistments2017_folds0-4.parquet",
                1355099,
                "28e1bab75f8bad877547881d10a5006421b85500200d61ced3fd7b4e01047cd3",
            ),
            DataFile(
                "assistments2017_skills.csv",
                2238,
                "190418ddea43f1b8aada3461bd7eeaa262edd144e2bc2eff9476489b0d673ce8",
                optional=True,
            ),
        ),
        _ASSISTMENTS_TERMS,
        _ASSISTMENTS_UPSTREAM,
        "A. Ghosh, N. Heffernan, A. S. Lan, KDD 2020",
    ),
    "synthetic5": DataSet(
        "Synthetic-5 of Deep Knowledge Tracing: 4,000 simulated students, 50 exercises, 5 hidden concepts",
        "knowledge_tracing",
        (
            DataFile(
                "synthetic5.parquet",
                198387,
                "23f52455e56d40bf396f5ba231652d00f0b4ca96aa64c2e254c3fa1e70a97869",
            ),
            DataFile(
                "synthetic5_exercises.csv",
                6637,
                "4e4fe2040eff0e27a6f55653f27e7b8f0255bdca50405b4a8e5fc44a135b68e9",
                optional=True,
            ),
        ),
        "none stated",
        "https://github.com/chrispiech/DeepKnowledgeTracing, folder data/synthetic",
        "C. Piech et al., Deep Knowledge Tracing, NIPS 2015",
    ),
    "tsplib": DataSet(
        "TSPLIB95: 32 EUC_2D instances of 51 to 724 nodes, optimal lengths, and optimal tours of most",
        "tsplib",
        tuple(DataFile(*file, optional=file[0].endswith(".tour")) for file in FILES),
        'none stated by the mirror of the instances; "All data is publicly available" (READ_ME of the first release); '
        "Apache-2.0 stated for the repository with the tours",
        "https://github.com/mastqe/tsplib and https://github.com/rhgrant10/tsplib95; some tours found with LKH, of "
        "exactly the published length",
        "G. Reinelt, ORSA Journal on Computing 3, 376 (1991)",
    ),
}
"""Every set by its name."""
